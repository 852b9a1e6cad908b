"""Stop signals that interrupt a hanging request."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from publisher.errors import InterruptedByStop


class Stop:
    """Records SIGTERM and SIGINT, and interrupts code that is marked as interruptible.

    Requests and pauses are interruptible: an interrupted batch is sent again after the next start.
    Storing a position is not.
    """

    def __init__(self) -> None:
        self._requested = False
        self._interruptible = False

    def install(self) -> None:
        """Install the signal handlers of this process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Mark the block as interruptible. Raises InterruptedByStop."""
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
