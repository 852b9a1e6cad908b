"""A stop that does not wait for a server that hangs."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from publisher.errors import InterruptedByStop


class Stop:
    """Whether SIGTERM or SIGINT has come; it ends at once what is marked as interruptible.

    Requests and pauses are: a batch that is cut off is sent again at the next start. Writing down
    a position is not.
    """

    def __init__(self) -> None:
        self._requested = False
        self._interruptible = False

    def install(self) -> None:
        """Handle the signals of this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Mark what a stop may interrupt. Raises InterruptedByStop."""
        self._interruptible = True
        try:
            if self._requested:
                raise InterruptedByStop
            yield
        finally:
            self._interruptible = False

    def _handle(self, _: int, __: FrameType | None) -> None:
        self._requested = True
        if self._interruptible:
            raise InterruptedByStop
