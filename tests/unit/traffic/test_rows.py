"""The supply of wines."""

from collections import Counter
from itertools import islice

import pytest

from tests.support.locust import seeded
from traffic.rows import Wines, held_out, shuffled, white, white_share
from wine_quality.data import Row, rows, split


def _key(row: Row) -> tuple[float, ...]:
    return tuple(row.values())


def _draw(source: str, count: int, elapsed: float = 0.0) -> list[Row]:
    wines = Wines(source, 100.0, seeded(1))
    return [wines.next(elapsed) for _ in range(count)]


def test_red_wines_are_held_out_from_training() -> None:
    """A round of red traffic is every held-out wine once, and nothing that was trained on."""
    train, held_out_rows = split(rows("red"))
    drawn = _draw("red", len(held_out_rows))

    assert Counter(map(_key, held_out_rows)) == Counter(map(_key, drawn))
    assert not set(map(_key, train)) & set(map(_key, drawn))


def test_white_wines_are_all_white() -> None:
    """A round of white traffic is every white wine once."""
    assert Counter(map(_key, white())) == Counter(map(_key, _draw("white", len(white()))))


@pytest.mark.parametrize(
    ("source", "elapsed", "expected"),
    [
        ("red", 1e9, 0.0),
        ("white", 0.0, 1.0),
        ("gradual", 0.0, 0.0),
        ("gradual", 25.0, 0.25),
        ("gradual", 100.0, 1.0),
        ("gradual", 1e9, 1.0),
    ],
)
def test_white_share(source: str, elapsed: float, expected: float) -> None:
    """The share of white wines is constant, or grows linearly to 1 and stays there."""
    assert expected == white_share(source, elapsed, 100.0)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.75, 1.0])
def test_gradual_wines_are_white_by_their_share(share: float) -> None:
    """Of 4,000 wines, as many are white as four standard deviations permit."""
    red = set(map(_key, held_out()))
    drawn = [_key(row) for row in _draw("gradual", 4_000, elapsed=100.0 * share)]
    whites = sum(key not in red for key in drawn)

    assert abs(whites - 4_000 * share) <= 4 * (4_000 * share * (1 - share)) ** 0.5


def test_rounds_differ_in_order_only() -> None:
    """Each round holds everything once, in an order of its own."""
    endless = shuffled(range(20), seeded(1))
    first, second = list(islice(endless, 20)), list(islice(endless, 20))

    assert sorted(first) == sorted(second) == list(range(20))
    assert first != second
