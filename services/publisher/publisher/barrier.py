"""Holds labels back until their predictions are at the destination, whichever replica has them.

A label is spooled after its prediction, possibly by another replica. So when a pass over the spool
starts at time T, the prediction of every label that is already in the spool was spooled before T.
Such a label may be sent once every replica has published all predictions that were spooled before
T, and the destination has had time to store them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import takewhile
from math import inf
from typing import Protocol

# Upper bound of the difference between the clocks of two replicas, in seconds.
CLOCK_SKEW = 5.0
# Marks per delay: labels wait at most a tenth longer than they must.
_MARKS_PER_DELAY = 10
# While a replica is behind, marks accumulate; then every other one of the older half is removed.
_MOST_MARKS = 100


class Replicas(Protocol):
    """The other publishers."""

    def settled(self) -> float:
        """Return the earliest `settled` of all replicas (s since 1970), infinite if there are none.

        Raises TransientError if a replica cannot be asked.
        """


@dataclass(frozen=True)
class Mark:
    """A pass over the spool that started at `time` (s since 1970), and the segments' sizes then."""

    time: float
    sizes: dict[str, int]
    settles_at: float = inf


@dataclass
class Barrier:
    """Tells up to which offset of each segment labels may be sent.

    `delay` is the time in seconds that the destination needs to store a prediction.
    """

    delay: float
    replicas: Replicas
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    settled: float = 0.0
    """All predictions spooled before this time (s since 1970) are stored at the destination."""
    _marks: list[Mark] = field(default_factory=list, init=False)
    _next_mark_at: float = field(default=-inf, init=False)

    def begin(self, sizes: dict[str, int]) -> Mark:
        """Return a mark of the pass that starts now."""
        return Mark(self.now(), sizes)

    def end(self, mark: Mark) -> None:
        """Record that the pass has published every prediction that it found."""
        clock = self.clock()
        if clock >= self._next_mark_at:
            self._next_mark_at = clock + self.delay / _MARKS_PER_DELAY
            self._marks.append(Mark(mark.time, mark.sizes, clock + self.delay))
            if len(self._marks) > _MOST_MARKS:
                half = _MOST_MARKS // 2
                self._marks[:half] = self._marks[:half:2]

    def restart(self) -> None:
        """Restart the delay of all labels: their predictions may be sent only now."""
        self._marks.clear()

    def release(self) -> dict[str, int]:
        """Return, for each segment, the offset up to which labels may be sent now.

        Each offset is returned once; an empty result means that no more labels may be sent. Raises
        TransientError if a replica cannot be asked.
        """
        clock = self.clock()
        settled = [mark for mark in self._marks if mark.settles_at <= clock]
        if not settled:
            return {}
        self.settled = settled[-1].time
        everywhere = self.replicas.settled()
        released = [*takewhile(lambda mark: mark.time + CLOCK_SKEW < everywhere, settled)]
        self._marks = self._marks[len(released) :]
        return released[-1].sizes if released else {}
