"""How often rows come again: what the rules need to know how many rows are independent.

N rows of which each comes R times weigh as much as N/R independent ones. With c the number of a
row's earlier occurrences, R is 1 + 2·Σc/N: the design effect of clusters of equal rows (Kish,
1965). So a counter of Σc is enough, and Prometheus does the rest.

Only the occurrences within a window count, and a row at its beginning has none before it. A memory
of half the window's length counts the right number of pairs both for repeats in quick succession
and for repeats spread evenly over the window.
"""

import time
from typing import Literal, get_args

from bundle.arrays import Floats

Span = Literal["1h", "1d"]
SPANS: tuple[Span, ...] = get_args(Span)
_HOUR = 3_600.0
# The current generation and the one before it remember 1.5 generations on average: half the span.
_GENERATION_SECONDS: dict[Span, float] = {"1h": _HOUR / 3, "1d": 24 * _HOUR / 3}
# Fingerprints that a generation remembers; with more distinct rows, a sample of them is taken.
MAX_REMEMBERED = 8_192


class Repeats:
    """Counts the earlier occurrences of rows in one worker. Not thread-safe."""

    def __init__(self) -> None:
        self._memories = {span: _Memory(seconds) for span, seconds in _GENERATION_SECONDS.items()}

    def count(self, rows: Floats) -> dict[Span, int]:
        """Return, by span, the number of earlier occurrences of these rows (n, features) in all.

        Rows are equal if all their bytes are. The number is an estimate once there are more than
        MAX_REMEMBERED distinct rows.
        """
        content, size = rows.tobytes(), rows.shape[1] * rows.itemsize
        # Python's hash of bytes is keyed: a client cannot make rows collide on purpose.
        fingerprints = [hash(content[i : i + size]) for i in range(0, len(content), size)]
        now = time.monotonic()
        return {span: each.count(fingerprints, now) for span, each in self._memories.items()}


class _Memory:
    """Remembers fingerprints for one to two generations."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._current: dict[int, int] = {}
        self._previous: dict[int, int] = {}
        self._ends = 0.0
        # The sample: of the distinct rows, those whose fingerprint has none of these bits.
        self._mask = 0

    def count(self, fingerprints: list[int], now: float) -> int:
        """Return the number of earlier occurrences, and remember these."""
        if now >= self._ends:
            self._begin_generation(now)
        if mask := self._mask:
            fingerprints = [each for each in fingerprints if not each & mask]
        current, previous = self._current, self._previous
        earlier = 0
        for each in fingerprints:
            seen = current.get(each, 0)
            current[each] = seen + 1
            earlier += seen + previous.get(each, 0)
        # The mask of a sample of 1 in m rows is m - 1.
        earlier *= mask + 1
        while len(self._current) > MAX_REMEMBERED:
            self._halve_sample()
        return earlier

    def _begin_generation(self, now: float) -> None:
        is_gap = now >= self._ends + self._seconds
        self._previous = {} if is_gap else self._current
        self._current = {}
        self._ends = now + self._seconds
        if len(self._previous) < MAX_REMEMBERED // 4:
            # Rows that were not in the sample are in it from now on.
            self._mask >>= 1

    def _halve_sample(self) -> None:
        mask = self._mask = 2 * self._mask + 1
        self._current = {key: n for key, n in self._current.items() if not key & mask}
        self._previous = {key: n for key, n in self._previous.items() if not key & mask}
