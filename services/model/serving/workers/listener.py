"""A connection goes to the worker that holds the fewest.

All workers listen at one socket, and the kernel wakes them all. Left to themselves, the quickest
one takes a whole burst of connections, and for as long as its clients keep these open, it works
while the others idle. Here a worker that is ahead lets the others go first; but not for long, for
one that is busy, stopped or dead must hold up nobody.
"""

import asyncio
import logging
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from serving.workers.connection_counts import Seat

# What a worker that is ahead waits between two looks, and how long it leaves a connection waiting.
_LOOK_SECONDS = 0.001
_PATIENCE_SECONDS = 0.01
# After that it takes whatever comes: a stopped worker delays one connection a second, not each.
_IMPATIENT_SECONDS = 1.0
# How long a connection's place is kept. Who opens one for each request is back sooner, and has it.
_PLACE_SECONDS = 0.01
_PLACES = 1024
# How long nothing is accepted where this process has no descriptors or memory left.
_EXHAUSTED_SECONDS = 1.0

log = logging.getLogger(__name__)


class Share:
    """A worker's share of all connections: those it holds, and whether it may take another."""

    def __init__(self, seat: Seat) -> None:
        self._seat = seat
        self._places: deque[float] = deque(maxlen=_PLACES)
        self._looked_at = self._waits_since = self._impatient_until = 0.0

    def hold(self) -> None:
        """Count a connection accepted."""
        self._seat.add(1)

    def lose(self) -> None:
        """Count a connection gone; its place is kept for a moment."""
        self._seat.add(-1)
        self._places.append(time.monotonic() + _PLACE_SECONDS)

    def may_take(self) -> bool:
        """Tell whether a connection that waits is for this worker."""
        now = time.monotonic()
        if not self._seat.is_ahead:
            self._looked_at = 0.0
            return True
        return now < self._impatient_until or self._has_place(now) or self._has_waited(now)

    def _has_place(self, now: float) -> bool:
        while self._places:
            if self._places.popleft() >= now:
                return True
        return False

    def _has_waited(self, now: float) -> bool:
        """Tell whether it has looked, one look soon after the other, for long enough."""
        if now - self._looked_at > 2 * _LOOK_SECONDS:
            self._waits_since = now
        self._looked_at = now
        if now - self._waits_since < _PATIENCE_SECONDS:
            return False
        self._impatient_until = now + _IMPATIENT_SECONDS
        return True


class Connections(set[Any]):
    """The connections that uvicorn's protocols keep a record of; a share knows of each one lost."""

    def __init__(self, share: Share) -> None:
        super().__init__()
        self._share = share

    def discard(self, element: Any) -> None:  # noqa: ANN401 as of any set
        """Remove a connection, if it is there."""
        if element in self:
            super().discard(element)
            self._share.lose()


class Listener:
    """Accepts a worker's share of the connections to a socket, in place of asyncio's server."""

    def __init__(
        self, where: socket.socket, create_protocol: Callable[[], asyncio.Protocol], share: Share
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = where
        self._create_protocol = create_protocol
        self._share = share
        self._pending: set[asyncio.Task[None]] = set()
        self._is_closed = False
        where.setblocking(False)  # noqa: FBT003
        self._watch()

    async def close(self) -> None:
        """Accept no more; return when every connection accepted is known to its protocol."""
        self._is_closed = True
        self._loop.remove_reader(self._socket)
        while self._pending:
            await asyncio.wait(self._pending)

    def _watch(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._socket, self._accept)

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._socket)
        self._loop.call_later(seconds, self._watch)

    def _accept(self) -> None:
        """Take what waits, or rest while it is for others to take it."""
        while self._share.may_take():
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                log.exception("no connection can be accepted")
                self._rest(_EXHAUSTED_SECONDS)
                return
            self._share.hold()
            task = self._loop.create_task(self._connect(connection))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)
        self._rest(_LOOK_SECONDS)

    async def _connect(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._create_protocol, connection)
        except Exception:
            log.exception("a connection was lost before it began")
            connection.close()
            self._share.lose()
