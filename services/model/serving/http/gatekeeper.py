"""What one worker grants all its clients together: connections, memory and time.

Deadlines cost a request nothing: instead of a timer for each, one sweep a second looks at every
connection. A deadline is therefore met to within two seconds.
"""

import asyncio
import heapq
import logging
import resource
from collections.abc import Iterable
from enum import Enum
from typing import Protocol

from serving.metrics.rejections import Rejections
from serving.overload import Load
from serving.settings import Settings

_SWEEP_SECONDS = 1.0
# When a worker has its maximum, this share of it is closed at once, so that finding those that have
# waited longest is not repeated for each new connection.
_ROOM = 20
# Connections beyond the maximum, while none of those within it can be closed.
RESERVE = 32
# File descriptors that a worker needs for other things.
_OTHER_FILES = 100
# Unfinished bodies may together be as large as this many of the largest.
_UNFINISHED_BODIES = 32

log = logging.getLogger(__name__)


class Wait(Enum):
    """Who has to do something next on a connection."""

    HEAD = "the client sends a head"
    BODY = "the client sends a body"
    NEXT = "the client may send another request"
    READER = "the client reads an answer"
    SERVER = "the server answers"


class Guarded(Protocol):
    """A connection, as the gatekeeper knows it."""

    waiting_since: float
    # Nothing but health checks is served on it.
    is_over_limit: bool

    @property
    def has_served(self) -> bool:
        """Whether it has brought a request."""

    @property
    def is_evictable(self) -> bool:
        """Whether closing it loses no request that has completely arrived, and no answer."""

    def check(self, now: float) -> None:
        """Close it if a deadline has passed."""

    def evict(self) -> None:
        """Close it to make room."""

    def turn_away(self) -> None:
        """Close it at once."""


class Gatekeeper:
    """Watches the connections of one worker. Not thread-safe."""

    def __init__(self, settings: Settings, rejections: Rejections, load: Load) -> None:
        self.max_head_bytes = settings.max_head_bytes
        self.max_body_bytes = settings.max_body_bytes
        self.deadlines = {
            Wait.HEAD: settings.head_timeout,
            Wait.BODY: settings.body_timeout,
            Wait.NEXT: settings.idle_timeout,
            Wait.READER: settings.body_timeout,
        }
        self.count = rejections.count
        self.load = load
        self._max_connections = _affordable(settings.max_connections)
        self._max_unfinished = _UNFINISHED_BODIES * settings.max_body_bytes
        self._unfinished = 0
        self._open: set[Guarded] = set()
        self._is_sweeping = False

    def admit(self, connection: Guarded) -> None:
        """Watch a new connection. Beyond the maximum, close others or grant it less."""
        self._open.add(connection)
        if not self._is_sweeping:
            self._sweep_soon()
        excess = len(self._open) - self._max_connections
        if excess > 0:
            self._admit_beyond(connection, excess)

    def leave(self, connection: Guarded) -> None:
        """Forget a connection that was closed."""
        self._open.discard(connection)

    def keep(self, size: int) -> bool:
        """Account for bytes of an unfinished body; return whether there is memory for them.

        A negative size releases them.
        """
        self._unfinished += size
        return self._unfinished <= self._max_unfinished

    def _admit_beyond(self, newcomer: Guarded, excess: int) -> None:
        idle = [each for each in self._open if each.is_evictable and each is not newcomer]
        if self._make_room(
            (each for each in idle if not each.is_over_limit), 1 + self._max_connections // _ROOM
        ):
            return
        newcomer.is_over_limit = True
        if excess > RESERVE and not self._make_room(idle, 1):
            newcomer.turn_away()

    def _make_room(self, idle: Iterable[Guarded], number: int) -> bool:
        """Close those that wait longest; first those that never brought a request."""
        chosen = heapq.nsmallest(
            number, idle, key=lambda each: (each.has_served, each.waiting_since)
        )
        for each in chosen:
            self._open.discard(each)
            each.evict()
        return bool(chosen)

    def _sweep_soon(self) -> None:
        self._is_sweeping = True
        asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for each in [*self._open]:
            each.check(now)
        self._is_sweeping = False
        if self._open:
            self._sweep_soon()


def _affordable(connections: int) -> int:
    """Return how many connections this process has file descriptors for, at most `connections`."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files - _OTHER_FILES - RESERVE >= connections:
        return connections
    affordable = max(1, files - _OTHER_FILES - RESERVE)
    log.warning("MODEL_MAX_CONNECTIONS: %d file descriptors suffice for %d", files, affordable)
    return affordable
