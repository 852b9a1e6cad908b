"""How often rows come again, from which the rules compute how many rows are independent.

N rows of which each comes R times weigh as much as N/R independent ones. With c the number of a
row's earlier occurrences, R is 1 + 2·Σc/N: the design effect of clusters of equal rows (Kish,
1965). So a counter of Σc is enough, and Prometheus does the rest.

Only the occurrences within a window count, and a row at its beginning has none before it. A memory
of half the window's length counts the right number of pairs both for repeats in quick succession
and for repeats spread evenly over the window.

All workers of a service share the memory, a file in the metrics directory: it does not matter which
of them a row reaches. One at a time counts; the others keep their rows until their next try.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from serving.metrics.allocate import map_shared

Span = Literal["1h", "1d"]
SPANS: tuple[Span, ...] = get_args(Span)
REPEATS_FILE = "repeats"
_HOUR = 3_600.0
# This generation and the one before it are remembered, 1.5 on average: half of the span.
_GENERATION_SECONDS: dict[Span, float] = {"1h": _HOUR / 3, "1d": 24 * _HOUR / 3}
# Distinct rows in a generation; if there are more, a sample of them is remembered. With one entry
# in eight in use and two places for each, one row in a hundred finds no place.
MAX_REMEMBERED = 8_192
_ENTRIES = 8 * MAX_REMEMBERED
# A worker counts its rows every second, or once it has so many: together they cost a third. Repeats
# that are not counted yet pass for independent rows in a scrape, so there may be only a few, or a
# few of a hundred that were counted.
MIN_PENDING, MAX_PENDING = 200, 1_024
_PENDING_SHARE = 1 / 32
_MAX_PENDING_BYTES = 1 << 20
# Bits of a fingerprint: the low ones give the place, these decide on the sample.
_SAMPLE_SHIFT = 32

_FACTORS = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT = np.uint64(33)

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]


def map_memory(directory: Path) -> "memoryview[int]":
    """Map the memory that all workers with this directory share. Raises OSError."""
    return memoryview(map_shared(directory / REPEATS_FILE, len(SPANS) * _Memory.BYTES))


class Repeats:
    """Counts the earlier occurrences of rows of some features. Not thread-safe."""

    def __init__(self, directory: Path, features: int) -> None:
        """Use the memory in this directory. Raises OSError."""
        content = map_memory(directory)
        self._memories = {
            span: _Memory(content[i * _Memory.BYTES :][: _Memory.BYTES], _GENERATION_SECONDS[span])
            for i, span in enumerate(SPANS)
        }
        self._lock = os.open(directory / REPEATS_FILE, os.O_RDWR)
        # A client that does not know the keys cannot make rows collide on purpose. They come from
        # Python's key for hashes, which forked workers have in common.
        self._keys = np.array([hash(b"%d" % each) for each in range(features)]).view(np.uint64)
        self._pending: list[bytes] = []
        self._bytes = self._counted = 0
        self._max_bytes = self._limit()

    def add(self, rows: Floats) -> bool:
        """Take rows (n, features); return whether they should be counted now.

        Rows are equal if all their bytes are.
        """
        content = rows.tobytes()
        self._pending.append(content)
        self._bytes += len(content)
        return self._bytes >= self._max_bytes

    def count(self) -> dict[Span, int]:
        """Return, by span, the number of earlier occurrences of all rows since the last time.

        It is an estimate once there are more than MAX_REMEMBERED distinct rows. While another
        worker counts, nothing is returned and the rows are kept, unless they are too many.
        """
        if not self._pending:
            return {}
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if self._bytes < 2 * _MAX_PENDING_BYTES:
                return {}
        try:
            fingerprints = self._fingerprints()
            self._counted += len(fingerprints)
            self._max_bytes = self._limit()
            rows, numbers = np.unique(fingerprints, return_counts=True)
            now = time.monotonic()
            return {span: each.count(rows, numbers, now) for span, each in self._memories.items()}
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _limit(self) -> int:
        """Return how many bytes may be pending."""
        rows = min(max(int(self._counted * _PENDING_SHARE), MIN_PENDING), MAX_PENDING)
        return min(rows * self._keys.nbytes, _MAX_PENDING_BYTES)

    def _fingerprints(self) -> Integers:
        """Return one for each pending row, of which there are none then."""
        words = np.frombuffer(b"".join(self._pending), np.uint64).reshape(-1, len(self._keys))
        self._pending, self._bytes = [], 0
        return _hash(words, self._keys)


def _hash(words: Words, keys: Words) -> Integers:
    """Return a hash of each row (n, features), whose values are seen as words of 64 bits.

    It is the sum of the words, each with its column's key and mixed by MurmurHash3's finalizer
    (Appleby, 2011). For all rows at once it takes a fourth of the time of Python's hash.
    """
    mixed = words ^ keys
    for factor in _FACTORS:
        mixed ^= mixed >> _SHIFT
        mixed *= factor
    mixed ^= mixed >> _SHIFT
    hashes: Integers = mixed.sum(axis=1).view(np.int64)
    return hashes


# What is remembered of a row is side by side: reaching it is one access to memory, not four.
_ENTRY = np.dtype(
    [("key", np.int64), ("generation", np.uint32), ("current", np.uint32), ("previous", np.uint32)],
    align=True,
)


class _Memory:
    """A table of fingerprints with their counts in this generation and the previous one."""

    # The entries; generation, distinct rows, and the sample.
    BYTES = _ENTRY.itemsize * _ENTRIES + 4 * 4

    def __init__(self, content: "memoryview[int]", seconds: float) -> None:
        self._seconds = seconds
        entries = np.frombuffer(content, _ENTRY, _ENTRIES)
        self._keys: Integers = entries["key"]
        self._generations, self._current, self._previous = (
            entries[each] for each in ("generation", "current", "previous")
        )
        # Arrays of one number each. Of the rows, 1 in 2^level is in the sample.
        numbers = np.frombuffer(content, np.uint32, offset=entries.nbytes)
        self._generation, self._distinct, self._level, _ = np.split(numbers, 4)

    def count(self, rows: Integers, numbers: Integers, now: float) -> int:
        """Remember distinct rows, a number of each; return the number of earlier occurrences."""
        # From 2 on: empty memory has the generation 0, which must be older than the previous one.
        generation = int(now / self._seconds) + 2
        if self._generation[0] != generation:
            self._begin(generation)
        level = int(self._level[0])
        mask = ((1 << level) - 1) << _SAMPLE_SHIFT
        if level:
            is_sampled = rows & mask == 0
            rows, numbers = rows[is_sampled], numbers[is_sampled]
        before = self._remember(rows, numbers, generation, mask)
        earlier = numbers * before + numbers * (numbers - 1) // 2
        return int(earlier.sum()) << level

    def _remember(self, rows: Integers, numbers: Integers, generation: int, mask: int) -> Integers:
        """Return the number of earlier occurrences of each row, and remember `numbers` more."""
        first = rows & (_ENTRIES - 1)
        places = np.where(self._keys[first] == rows, first, first ^ 1)
        is_known = self._keys[places] == rows
        before = np.zeros(len(rows), np.int64)
        before[is_known] = self._add(places[is_known], numbers[is_known], generation)
        new = np.flatnonzero(~is_known)
        for side in (0, 1):
            places = first[new] ^ side
            is_placed = self._place(places, rows[new], generation, mask)
            self._add(places[is_placed], numbers[new[is_placed]], generation)
            new = new[~is_placed]
        return before

    def _place(
        self, places: Integers, rows: Integers, generation: int, mask: int
    ) -> NDArray[np.bool_]:
        """Give rows the places that are free; return which rows have got theirs.

        An entry is free if it is forgotten: too old, or no longer in the sample.
        """
        keys = self._keys[places]
        is_free = (self._generations[places] < generation - 1) | (keys & mask != 0)
        # Of several rows that want a place, the last one gets it.
        self._keys[places[is_free]] = rows[is_free]
        self._generations[places[is_free]] = 0
        is_placed: NDArray[np.bool_] = is_free & (self._keys[places] == rows)
        return is_placed

    def _add(self, places: Integers, numbers: Integers, generation: int) -> Integers:
        """Add to the counts of distinct entries; return what they were together."""
        age = generation - self._generations[places]
        current = self._current[places].astype(np.int64)
        previous = np.where(age == 0, self._previous[places], np.where(age == 1, current, 0))
        current[age != 0] = 0
        self._current[places], self._previous[places] = current + numbers, previous
        self._generations[places] = generation
        self._count_distinct(int(np.count_nonzero(age)))
        return current + previous

    def _begin(self, generation: int) -> None:
        if self._level[0] and self._distinct[0] < MAX_REMEMBERED // 4:
            # Rows that were not in the sample are in it from now on.
            self._level -= 1
        self._generation[0], self._distinct[0] = generation, 0

    def _count_distinct(self, rows: int) -> None:
        self._distinct += rows
        while self._distinct[0] > MAX_REMEMBERED:
            self._level += 1
            self._distinct //= 2
