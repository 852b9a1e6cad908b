"""The predictions that have their label already, in memory that all workers of a service share.

A worker cannot see a label that another one counted, so the ids are in a file of the metrics
directory, with a lock that is held for one id. The death of a worker loses nothing; a restart of
the service forgets all, and another replica knows nothing of them.

The memory is bounded: it holds the last CAPACITY ids and at most as many before them. An id is 8
random bytes that this service chose, compared in full, so a new one is mistaken for one of n known
ones with a probability of n / 2^64: for the whole memory, one in 10^14.
"""

import fcntl
import mmap
import os
from pathlib import Path
from types import TracebackType

from serving.metrics.allocate import map_shared

SEEN_FILE = "seen"
_LOCK_SUFFIX = ".lock"
CAPACITY = 131_072
# Half full at most, so that a search takes 1.5 steps on average.
_PLACES = 2 * CAPACITY
_TABLE = 8 * _PLACES
# Which of the two tables is the current one, and its number of ids.
_HEAD = 16


class SeenIds:
    """A set of ids, of which it forgets the oldest. Safe between processes; not thread-safe."""

    def __init__(self, directory: Path | None = None) -> None:
        """Share the memory of all workers with this directory, or have one alone.

        Raises OSError.
        """
        size = _HEAD + 2 * _TABLE
        if directory is None:
            self._lock = _NoLock()
            content = memoryview(mmap.mmap(-1, size))
        else:
            content = memoryview(map_shared(directory / SEEN_FILE, size))
            self._lock = _Lock(directory / f"{SEEN_FILE}{_LOCK_SUFFIX}")
        self._head = content[:_HEAD].cast("Q")
        self._content = content[_HEAD:]
        self._tables = [content[_HEAD + i * _TABLE :][:_TABLE].cast("Q") for i in range(2)]

    def add(self, nonce: bytes) -> bool:
        """Add an id of 8 bytes; return False if it was there already."""
        # 0 is a free place.
        key = int.from_bytes(nonce, "big") or 1
        with self._lock:
            current, count = self._head
            place, is_known = _find(self._tables[current], key)
            if is_known or _find(self._tables[1 - current], key)[1]:
                return False
            if count >= CAPACITY:
                current = 1 - current
                self._content[current * _TABLE :][:_TABLE] = bytes(_TABLE)
                self._head[0], count = current, 0
                place = key % _PLACES
            self._tables[current][place] = key
            self._head[1] = count + 1
            return True


def _find(table: "memoryview[int]", key: int) -> tuple[int, bool]:
    """Return the place of a key, and whether it is there or could be put there."""
    place = key % _PLACES
    while (found := table[place]) and found != key:
        place = (place + 1) % _PLACES
    return place, bool(found)


class _NoLock:
    """The lock of a memory that is not shared."""

    def __enter__(self) -> None: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class _Lock(_NoLock):
    """A lock between processes, which the system releases when its holder dies."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def __enter__(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_EX)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)
