"""Closing a connection on which the client may still be sending.

A socket that is closed with unread bytes resets the connection, and the client may lose the answer
that it was about to read. So the server ends its own direction, and discards what still comes until
the client closes; but not for long, and not much.
"""

import asyncio

_SECONDS = 2.0
# With this many, further ones are closed at once: each holds a file descriptor.
_MAX_LINGERING = 100


class Lingering(asyncio.Protocol):
    """Takes a connection over from the protocol that answered last. One protocol has `owner`."""

    count = 0

    def __init__(self, owner: asyncio.Protocol, transport: asyncio.Transport, size: int) -> None:
        """Discard at most `size` bytes."""
        self._owner = owner
        self._transport = transport
        self._size = size
        self._timer = asyncio.get_running_loop().call_later(_SECONDS, transport.abort)
        Lingering.count += 1
        transport.set_protocol(self)
        transport.write_eof()
        transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """Discard."""
        self._size -= len(data)
        if self._size < 0:
            self._transport.close()

    def pause_writing(self) -> None:
        """Tell the owner, whose answer is still being written."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Tell the owner."""
        self._owner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the owner."""
        Lingering.count -= 1
        self._timer.cancel()
        self._owner.connection_lost(exc)


def close_gently(owner: asyncio.Protocol, transport: asyncio.Transport, size: int) -> None:
    """Close a connection after what was written to it; discard at most `size` bytes."""
    if transport.is_closing() or Lingering.count >= _MAX_LINGERING:
        transport.close()
    else:
        Lingering(owner, transport, size)
