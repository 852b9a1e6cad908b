"""Which wine comes next: red and never trained on, white, or ever more often white."""

from collections.abc import Iterator, Sequence
from functools import cache
from random import Random
from typing import TypeVar

from wine_quality.data import Row, rows, split

T = TypeVar("T")

SOURCES = ("red", "white", "gradual")


@cache
def held_out() -> list[Row]:
    """Return the red wines that training never saw."""
    return split(rows("red"))[1]


@cache
def white() -> list[Row]:
    """Return the white wines; training saw none of them."""
    return rows("white")


def white_share(source: str, elapsed: float, gradual_seconds: float) -> float:
    """Return the share of white wines `elapsed` seconds after the start, in 0..1."""
    if source == "gradual":
        return min(elapsed / gradual_seconds, 1.0)
    return 1.0 if source == "white" else 0.0


def shuffled(items: Sequence[T], rng: Random) -> Iterator[T]:
    """Yield all items, round after round, each round in a new order.

    Rounds hold the proportions exactly, where independent draws would add noise of their own.
    """
    while True:
        yield from rng.sample(items, len(items))


class Wines:
    """An endless, seeded supply of wines from one source."""

    def __init__(self, source: str, gradual_seconds: float, rng: Random) -> None:
        self._source = source
        self._gradual_seconds = gradual_seconds
        self._rng = rng
        self._red = shuffled(held_out(), rng)
        self._white = shuffled(white(), rng)

    def next(self, elapsed: float) -> Row:
        """Return the wine that is asked about `elapsed` seconds after the start."""
        share = white_share(self._source, elapsed, self._gradual_seconds)
        return next(self._white if self._rng.random() < share else self._red)
