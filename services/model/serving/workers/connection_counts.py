"""The number of connections that each worker holds, in memory that all workers share."""

import mmap
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# The number of workers that may live at once; a reload needs twice as many as are set.
_MAX_WORKERS = 1024
_BYTES = 4


class ConnectionCount:
    """One worker's entry. Safe between processes, each with an entry of its own; not thread-safe.

    While its worker accepts connections, the entry is their number plus 1. Otherwise it is below 1,
    and other workers ignore it.
    """

    def __init__(self, entries: NDArray[np.int32], index: int) -> None:
        self._entries = entries
        self.index = index

    def start(self) -> None:
        """Accept connections; there are none yet."""
        self._entries[self.index] = 1

    def stop(self) -> None:
        """Accept no more connections."""
        self._entries[self.index] = 0

    def add(self, connections: int) -> None:
        """Add to the number of connections."""
        self._entries[self.index] += connections

    @property
    def is_accepting(self) -> bool:
        """Whether its worker accepts connections."""
        return bool(self._entries[self.index] > 0)

    @property
    def is_ahead(self) -> bool:
        """Whether another worker that accepts has fewer connections, by more than an eighth."""
        accepting = self._entries > 0
        fewest = int(self._entries.min(where=accepting, initial=np.iinfo(np.int32).max)) - 1
        return int(self._entries[self.index]) - 1 > fewest + fewest // 8


class ConnectionCounts:
    """The entries of all workers. gunicorn's master creates them; every worker inherits them."""

    def __init__(self) -> None:
        self._entries = np.frombuffer(mmap.mmap(-1, _MAX_WORKERS * _BYTES), dtype=np.int32)

    def free(self, in_use: Iterable[ConnectionCount]) -> ConnectionCount:
        """Return an entry that no live worker has, the last one if there is none."""
        taken = {each.index for each in in_use}
        free = (index for index in range(_MAX_WORKERS) if index not in taken)
        return self._at(next(free, _MAX_WORKERS - 1))

    def _at(self, index: int) -> ConnectionCount:
        entry = ConnectionCount(self._entries, index)
        entry.stop()
        return entry
