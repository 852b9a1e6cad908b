"""A connection to uvicorn's protocol class without a server."""

import asyncio
from typing import Any

import httpx
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.http.predict_protocol import Exchange, Protocol

TURNS = 50


class Wire(asyncio.Transport):
    """The transport of a connection, which stores the bytes that are written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.unsent = 0
        self.closing = self.ended = self.aborted = False
        self.protocol: Any = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Store the data."""
        assert not self.closing
        assert not self.ended
        self.written += data

    def write_eof(self) -> None:
        """Close the server's own direction."""
        self.ended = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Deliver to another protocol."""
        self.protocol = protocol

    def get_write_buffer_size(self) -> int:
        """Return how much the client has not received."""
        return self.unsent

    def abort(self) -> None:
        """Mark the transport as closed, with what was not sent."""
        self.closing = self.aborted = True

    def is_closing(self) -> bool:
        """Return whether the transport is closed."""
        return self.closing

    def close(self) -> None:
        """Mark the transport as closed."""
        self.closing = True

    def pause_reading(self) -> None:
        """Do nothing, because nothing is read."""

    def resume_reading(self) -> None:
        """Do nothing, because nothing is read."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Return the default, because there is no socket."""
        del name
        return default


class Client:
    """A connection to the application, on which a test sends bytes."""

    def __init__(self, config: Config) -> None:
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]
        self.wire = Wire()
        self.protocol = Protocol(config, self.state, {}, asyncio.get_running_loop())
        self.wire.set_protocol(self.protocol)
        self.protocol.connection_made(self.wire)

    @property
    def is_fast(self) -> bool:
        """Whether the last request took the fast path."""
        return isinstance(self.protocol.cycle, Exchange)

    def send(self, *parts: bytes) -> None:
        """Send bytes, one packet per part."""
        for part in parts:
            self.wire.protocol.data_received(part)

    def end(self) -> bool:
        """Close the client's own direction; return whether the server keeps the connection."""
        keeps = self.wire.protocol.eof_received()
        if not keeps:
            self.wire.close()
        return bool(keeps)

    @property
    def is_done(self) -> bool:
        """Whether the server sends nothing more."""
        return self.wire.closing or self.wire.ended

    async def answers(self, count: int) -> list[httpx.Response]:
        """Return `count` answers once they are complete; no further bytes may follow."""
        for _ in range(TURNS):
            if len(parse(self.wire.written)) == count:
                break
            await asyncio.sleep(0)
        found = parse(self.wire.written)
        assert len(found) == count
        return found


def parse(written: bytes) -> list[httpx.Response]:
    """Return the complete answers in the written bytes."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ") for line in lines)
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            break
        body, written = rest[:length], rest[length:]
        found.append(httpx.Response(int(status.split()[1]), headers=headers, content=body))
    return found


def request(body: bytes, *headers: bytes, target: bytes = b"/predict") -> bytes:
    """Return a request's bytes."""
    lines = [
        b"POST %b HTTP/1.1" % target,
        b"Host: model",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
