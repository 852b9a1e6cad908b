"""Repeated rows are counted as the design effect needs them."""

import numpy as np
import pytest

from bundle.arrays import Floats
from serving.metrics import repeats
from serving.metrics.repeats import SPANS, Repeats, Span

RNG = np.random.default_rng(5)
BATCH = 50
HOUR, DAY = 3_600.0, 86_400.0


def distinct(count: int) -> Floats:
    """Return distinct rows (count, 3)."""
    return RNG.standard_normal((count, 3))


def design_effect(rows: Floats, span: Span = "1h") -> float:
    """Return 1 + 2·Σc/N of rows that arrive in batches."""
    counter = Repeats()
    batches = (rows[i : i + BATCH] for i in range(0, len(rows), BATCH))
    return 1 + 2 * sum(counter.count(batch)[span] for batch in batches) / len(rows)


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a clock that a test sets."""
    clock = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


def test_distinct_rows_have_no_earlier_occurrence() -> None:
    """Their design effect is exactly 1."""
    assert design_effect(distinct(2_000)) == 1


@pytest.mark.parametrize("times", [2, 10, 50])
def test_rows_that_come_several_times_have_that_design_effect(times: int) -> None:
    """In any order, it is exact as long as all distinct rows are remembered."""
    rows = RNG.permutation(np.tile(distinct(200), (times, 1)))

    assert design_effect(rows) == pytest.approx(times)


def test_more_distinct_rows_than_are_remembered_are_sampled() -> None:
    """The estimate stays within 10 % of the truth, and the memory within its bound."""
    count = 5 * repeats.MAX_REMEMBERED
    rows = distinct(count)[RNG.permutation(np.repeat(np.arange(count), 10))]

    assert design_effect(rows) == pytest.approx(10, rel=0.1)


def test_memory_is_bounded() -> None:
    """Neither generation holds more than MAX_REMEMBERED rows."""
    counter = Repeats()
    for _ in range(40):
        counter.count(distinct(1_000))

    for span in SPANS:
        memory = counter._memories[span]  # noqa: SLF001
        assert len(memory._current) <= repeats.MAX_REMEMBERED  # noqa: SLF001
        assert len(memory._previous) <= repeats.MAX_REMEMBERED  # noqa: SLF001


def test_missing_values_are_equal_to_each_other() -> None:
    """A row without a value that comes again is a repeat."""
    row = np.array([[1.0, float("nan"), 2.0]])
    counter = Repeats()

    assert counter.count(row)["1h"] == 0
    assert counter.count(row.copy())["1h"] == 1


@pytest.mark.parametrize(("span", "seconds"), [("1h", HOUR), ("1d", DAY)])
def test_repeats_spread_over_the_window_have_the_design_effect_of_the_window(
    span: Span, seconds: float, clock: list[float]
) -> None:
    """Each row comes 24 times a window, evenly and for many windows: 24, to within a tenth."""
    rows, counter = distinct(20), Repeats()
    times, windows = 24, 20
    earlier = 0
    for step in range(times * windows):
        clock[0] += seconds / times
        found = counter.count(rows)[span]
        if step >= 2 * times:
            earlier += found
    per_row = earlier / (len(rows) * times * (windows - 2))

    assert 1 + 2 * per_row == pytest.approx(times, rel=0.1)


def test_a_row_is_forgotten_after_the_span(clock: list[float]) -> None:
    """Two generations without the row make it new."""
    rows, counter = distinct(1), Repeats()
    counter.count(rows)
    clock[0] += HOUR

    assert counter.count(rows) == {"1h": 0, "1d": 1}


def test_the_sample_grows_again_when_there_are_few_rows(clock: list[float]) -> None:
    """After quiet generations every row counts once, and not as several."""
    counter = Repeats()
    for _ in range(4):
        counter.count(distinct(repeats.MAX_REMEMBERED))
    for _ in range(8):
        clock[0] += HOUR / 3
        counter.count(distinct(1))
    row = distinct(1)
    counter.count(row)

    assert counter.count(row)["1h"] == 1
