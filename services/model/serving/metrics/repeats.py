"""How often rows come again, from which the rules compute how many rows are independent.

N rows of which each comes R times weigh as much as N/R independent ones. With c the number of a
row's earlier occurrences, R is 1 + 2·Σc/N: the design effect of clusters of equal rows (Kish,
1965). So a counter of Σc is enough, and Prometheus does the rest.

Only the occurrences within a window count, and a row at its beginning has none before it. A memory
of half the window's length counts the right number of pairs both for repeats in quick succession
and for repeats spread evenly over the window.

All workers of a service share the memory, a file in the metrics directory: it does not matter which
of them a row reaches. They take no lock, so two workers that count the same row at the same moment
may lose an occurrence.
"""

import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from bundle.arrays import Floats

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
# A worker keeps this many distinct rows to itself, or rows for this long: the shared memory costs
# several times as much as a dictionary.
_MAX_PENDING = 512
_PENDING_SECONDS = 1.0
# Bits of a fingerprint: the low ones give the place, these decide on the sample.
_SAMPLE_SHIFT = 32


class Repeats:
    """Counts the earlier occurrences of rows. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        """Share the memory of all workers with this directory. Raises OSError."""
        size = len(SPANS) * _Memory.BYTES
        descriptor = os.open(directory / REPEATS_FILE, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)
            content = memoryview(mmap.mmap(descriptor, size))
        finally:
            os.close(descriptor)
        self._memories = {
            span: _Memory(content[i * _Memory.BYTES :][: _Memory.BYTES], _GENERATION_SECONDS[span])
            for i, span in enumerate(SPANS)
        }
        # Rows that are not in the shared memory yet: fingerprint and number.
        self._pending: dict[int, int] = {}
        self._due = 0.0

    def count(self, rows: Floats) -> dict[Span, int]:
        """Remember rows (n, features). Return, now and then, what has been found since.

        That is, by span, the number of earlier occurrences of all rows. Rows are equal if all their
        bytes are. The number is an estimate once there are more than MAX_REMEMBERED distinct rows.
        """
        content, size = rows.tobytes(), rows.shape[1] * rows.itemsize
        pending = self._pending
        for start in range(0, len(content), size):
            # The hash is keyed: a client cannot make rows collide on purpose. Forked workers have
            # the same key.
            fingerprint = hash(content[start : start + size])
            pending[fingerprint] = pending.get(fingerprint, 0) + 1
        now = time.monotonic()
        if now < self._due and len(pending) < _MAX_PENDING:
            return {}
        self._pending, self._due = {}, now + _PENDING_SECONDS
        return {span: each.count(pending, now) for span, each in self._memories.items()}


class _Memory:
    """A table of fingerprints with their counts in this generation and the previous one."""

    # A key, a generation and two counts for each entry, and as much for the head.
    BYTES = (8 + 4 * 4) * (_ENTRIES + 1)

    def __init__(self, content: "memoryview[int]", seconds: float) -> None:
        self._seconds = seconds
        self._keys = content[: 8 * (_ENTRIES + 1)].cast("q")
        numbers = content[8 * (_ENTRIES + 1) :].cast("I")
        width = _ENTRIES + 1
        self._generations = numbers[:width]
        self._current = numbers[width : 2 * width]
        self._previous = numbers[2 * width : 3 * width]
        # Behind the entries: the generation, its distinct rows, and the sample (1 row in 2^level).
        self._levels = numbers[3 * width :]

    def count(self, rows: Mapping[int, int], now: float) -> int:
        """Remember rows, a number of each; return the number of their earlier occurrences."""
        generation = int(now / self._seconds)
        if self._generations[_ENTRIES] != generation:
            self._begin(generation)
        level = self._levels[_ENTRIES]
        mask = ((1 << level) - 1) << _SAMPLE_SHIFT
        earlier = 0
        for fingerprint, number in rows.items():
            if not fingerprint & mask:
                before = self._remember(fingerprint, number, generation, mask)
                earlier += number * before + number * (number - 1) // 2
        return earlier << level

    def _remember(self, fingerprint: int, number: int, generation: int, mask: int) -> int:
        """Return the number of earlier occurrences of a row, and remember `number` more."""
        place = fingerprint % _ENTRIES
        if self._keys[place] != fingerprint and not self._is_free(place, generation, mask):
            place ^= 1
        age = generation - self._generations[place]
        earlier = 0
        if self._keys[place] != fingerprint:
            if not self._is_free(place, generation, mask):
                return 0
            self._keys[place] = fingerprint
        elif age == 0:
            seen = self._current[place]
            self._current[place] = seen + number
            return seen + self._previous[place]
        elif age == 1:
            earlier = self._current[place]
        self._generations[place] = generation
        self._current[place], self._previous[place] = number, earlier
        self._count_distinct()
        return earlier

    def _is_free(self, place: int, generation: int, mask: int) -> bool:
        """Return whether an entry is forgotten: too old, or no longer in the sample."""
        return self._generations[place] < generation - 1 or bool(self._keys[place] & mask)

    def _begin(self, generation: int) -> None:
        if self._levels[_ENTRIES] and self._current[_ENTRIES] < MAX_REMEMBERED // 4:
            # Rows that were not in the sample are in it from now on.
            self._levels[_ENTRIES] -= 1
        self._generations[_ENTRIES], self._current[_ENTRIES] = generation, 0

    def _count_distinct(self) -> None:
        self._current[_ENTRIES] += 1
        if self._current[_ENTRIES] > MAX_REMEMBERED:
            self._levels[_ENTRIES] += 1
            self._current[_ENTRIES] //= 2
