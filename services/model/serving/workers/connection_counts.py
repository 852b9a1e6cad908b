"""The number of connections that each worker holds, in memory that all workers share."""

import mmap

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
        self._index = index

    def start(self) -> None:
        """Accept connections; there are none yet."""
        self._entries[self._index] = 1

    def stop(self) -> None:
        """Accept no more connections."""
        self._entries[self._index] = 0

    def add(self, connections: int) -> None:
        """Add to the number of connections."""
        self._entries[self._index] += connections

    @property
    def is_ahead(self) -> bool:
        """Whether another worker that accepts has fewer connections, by more than an eighth."""
        accepting = self._entries > 0
        fewest = int(self._entries.min(where=accepting, initial=np.iinfo(np.int32).max)) - 1
        return int(self._entries[self._index]) - 1 > fewest + fewest // 8


class ConnectionCounts:
    """The entries of all workers. gunicorn's master creates them; every worker inherits them."""

    def __init__(self) -> None:
        self._entries = np.frombuffer(mmap.mmap(-1, _MAX_WORKERS * _BYTES), dtype=np.int32)

    def of(self, age: int) -> ConnectionCount:
        """Return the entry of the worker that gunicorn started as number `age`."""
        return ConnectionCount(self._entries, age % _MAX_WORKERS)
