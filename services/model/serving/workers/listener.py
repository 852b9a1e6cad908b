"""Accepts connections so that each goes to the worker that holds the fewest.

Why it exists: all workers listen on one socket, and the kernel wakes them all. Left alone, the
fastest one accepts a whole burst of connections (all 32 of a burst in 5 of 8 trials) and, as long
as clients keep them open, works while the others idle: two workers then serve as much as one. Here
a worker that is ahead lets the others go first, but not for long: one that is busy, stopped or dead
must not delay anybody. To remove it, delete this file and connection_counts.py, and let
workers/worker.py pass its sockets to uvicorn's `Server.startup`.

It relies on these attributes, which tests/unit/serving/test_dependencies.py guards: uvicorn's
`ServerState.connections`, a set from which a protocol discards itself, and the event loop's
`connect_accepted_socket`.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from serving.workers.connection_counts import ConnectionCount

# The pause between two checks of a worker that is ahead, and how long it leaves a connection alone.
_CHECK_SECONDS = 0.001
_PATIENCE_SECONDS = 0.01
# Then it accepts everything for a while: a stopped worker delays one connection a second, not all.
_IMPATIENT_SECONDS = 1.0
# How long the place of a closed connection is kept. A client that opens one connection for each
# request is back sooner and gets it.
_PLACE_SECONDS = 0.01
_MAX_PLACES = 1024
# How long nothing is accepted after this process ran out of file descriptors or memory.
_EXHAUSTED_SECONDS = 1.0

log = logging.getLogger(__name__)


class AcceptPolicy:
    """Decides whether this worker may accept another connection, and counts those it holds."""

    def __init__(self, count: ConnectionCount) -> None:
        self._count = count
        self._places: deque[float] = deque(maxlen=_MAX_PLACES)
        self._checked_at = self._waits_since = self._impatient_until = 0.0

    def opened(self) -> None:
        """Count a connection that was accepted."""
        self._count.add(1)

    def closed(self) -> None:
        """Count a connection as closed, and keep its place for a moment."""
        self._count.add(-1)
        self._places.append(time.monotonic() + _PLACE_SECONDS)

    def may_accept(self) -> bool:
        """Return whether this worker may accept a pending connection."""
        now = time.monotonic()
        if not self._count.is_ahead:
            self._checked_at = 0.0
            return True
        return now < self._impatient_until or self._has_place(now) or self._has_waited(now)

    def _has_place(self, now: float) -> bool:
        while self._places:
            if self._places.popleft() >= now:
                return True
        return False

    def _has_waited(self, now: float) -> bool:
        """Return whether it has checked without a long pause for `_PATIENCE_SECONDS`."""
        if now - self._checked_at > 2 * _CHECK_SECONDS:
            self._waits_since = now
        self._checked_at = now
        if now - self._waits_since < _PATIENCE_SECONDS:
            return False
        self._impatient_until = now + _IMPATIENT_SECONDS
        return True


class Connections(set[Any]):
    """uvicorn's set of open connections; it reports each one that is closed."""

    def __init__(self, policy: AcceptPolicy) -> None:
        super().__init__()
        self._policy = policy

    def discard(self, element: Any) -> None:  # noqa: ANN401 as of any set
        """Remove a connection, if it is in the set."""
        if element in self:
            super().discard(element)
            self._policy.closed()


class Listener:
    """Accepts a worker's connections to one socket, in place of asyncio's server."""

    def __init__(
        self,
        listening: socket.socket,
        create_protocol: Callable[[], asyncio.Protocol],
        policy: AcceptPolicy,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = listening
        self._create_protocol = create_protocol
        self._policy = policy
        self._pending: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listening.setblocking(False)  # noqa: FBT003
        self._watch()

    async def close(self) -> None:
        """Accept no more; return when every accepted connection has its protocol."""
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        while self._pending:
            await asyncio.wait(self._pending)

    def _watch(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._socket, self._accept)

    def _pause(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.call_later(seconds, self._watch)

    def _accept(self) -> None:
        """Accept the pending connections, or pause to let other workers accept them."""
        while self._policy.may_accept():
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                log.exception("connections cannot be accepted")
                self._pause(_EXHAUSTED_SECONDS)
                return
            self._policy.opened()
            task = self._loop.create_task(self._connect(connection))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        self._pause(_CHECK_SECONDS)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._create_protocol, connection)
        except Exception:
            log.exception("a connection was lost before its first request")
            connection.close()
            self._policy.closed()
