"""Repeated rows are counted as the design effect needs them."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from serving.metrics import repeats
from serving.metrics.repeats import Repeats, Span

RNG = np.random.default_rng(5)
BATCH = 50
FEATURES = 3
HOUR, DAY = 3_600.0, 86_400.0
NO_ROWS = np.empty((0, FEATURES))


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000 * DAY

    def __call__(self) -> float:
        """Return seconds."""
        return self.now


@pytest.fixture(name="clock", autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    return clock


def distinct(count: int) -> Floats:
    """Return distinct rows (count, FEATURES)."""
    return RNG.standard_normal((count, FEATURES))


def occurrences(counter: Repeats, rows: Floats, clock: Clock, span: Span = "1h") -> int:
    """Return the earlier occurrences of rows that arrive in batches."""
    found = 0
    for start in range(0, len(rows), BATCH):
        found += counter.count(rows[start : start + BATCH]).get(span, 0)
    clock.now += 1
    return found + counter.count(NO_ROWS)[span]


def design_effect(directory: Path, rows: Floats, clock: Clock) -> float:
    """Return 1 + 2·Σc/N."""
    return 1 + 2 * occurrences(Repeats(directory), rows, clock) / len(rows)


def test_distinct_rows_have_no_earlier_occurrence(tmp_path: Path, clock: Clock) -> None:
    """Their design effect is exactly 1."""
    assert design_effect(tmp_path, distinct(2_000), clock) == 1


@pytest.mark.parametrize("times", [2, 10, 50])
def test_rows_that_come_several_times_have_that_design_effect(
    times: int, tmp_path: Path, clock: Clock
) -> None:
    """It is exact in any order as long as all distinct rows are remembered."""
    rows = RNG.permutation(np.tile(distinct(200), (times, 1)))

    assert design_effect(tmp_path, rows, clock) == pytest.approx(times)


def test_more_distinct_rows_than_are_remembered_are_sampled(tmp_path: Path, clock: Clock) -> None:
    """The estimate stays within 10 % of the truth."""
    count = 5 * repeats.MAX_REMEMBERED
    rows = distinct(count)[RNG.permutation(np.repeat(np.arange(count), 10))]

    assert design_effect(tmp_path, rows, clock) == pytest.approx(10, rel=0.1)


def test_workers_count_each_others_rows(tmp_path: Path, clock: Clock) -> None:
    """Two workers that share a directory find as many earlier occurrences as one would."""
    first, second = Repeats(tmp_path), Repeats(tmp_path)
    rows = distinct(100)

    found = [occurrences(each, rows, clock) for each in (first, second, first, second)]

    assert found == [0, 100, 200, 300]


def _count_in_a_worker(directory: Path, rows: Floats) -> None:
    Repeats(directory).count(rows)


def test_forked_workers_agree_on_fingerprints(tmp_path: Path, clock: Clock) -> None:
    """Gunicorn forks its workers from one process, so their hashes have the same key."""
    rows = distinct(30)
    counter = Repeats(tmp_path)
    worker = multiprocessing.get_context("fork").Process(
        target=_count_in_a_worker, args=(tmp_path, rows)
    )
    worker.start()
    worker.join(60)

    assert worker.exitcode == 0
    assert occurrences(counter, rows, clock) == 30


def test_missing_values_are_equal_to_each_other(tmp_path: Path, clock: Clock) -> None:
    """A row without a value that comes again is a repeat."""
    row = np.array([[1.0, float("nan"), 2.0]])
    counter = Repeats(tmp_path)

    assert occurrences(counter, row, clock) == 0
    assert occurrences(counter, row.copy(), clock) == 1


@pytest.mark.parametrize(("span", "seconds"), [("1h", HOUR), ("1d", DAY)])
def test_repeats_spread_over_the_window_have_the_design_effect_of_the_window(
    span: Span, seconds: float, tmp_path: Path, clock: Clock
) -> None:
    """Each row comes 24 times per window, evenly: the estimate is 24 to within a tenth."""
    rows, counter = distinct(20), Repeats(tmp_path)
    times, windows = 24, 20
    earlier = 0
    for step in range(times * windows):
        clock.now += seconds / times - 1
        found = occurrences(counter, rows, clock, span)
        if step >= 2 * times:
            earlier += found
    per_row = earlier / (len(rows) * times * (windows - 2))

    assert 1 + 2 * per_row == pytest.approx(times, rel=0.1)


def test_a_row_is_forgotten_after_the_span(tmp_path: Path, clock: Clock) -> None:
    """After an hour it is new to the span of an hour, and known to that of a day."""
    rows, counter = distinct(1), Repeats(tmp_path)
    occurrences(counter, rows, clock)
    clock.now += HOUR

    assert counter.count(rows) == {"1h": 0, "1d": 1}


def test_the_sample_grows_again_when_there_are_few_rows(tmp_path: Path, clock: Clock) -> None:
    """After quiet generations each occurrence counts as one, not as several."""
    counter = Repeats(tmp_path)
    for _ in range(4):
        occurrences(counter, distinct(repeats.MAX_REMEMBERED), clock)
    for _ in range(8):
        clock.now += HOUR / 3
        occurrences(counter, distinct(1), clock)
    row = distinct(1)
    occurrences(counter, row, clock)

    assert occurrences(counter, row, clock) == 1


def test_rows_are_reported_within_a_second_or_a_few_hundred(tmp_path: Path, clock: Clock) -> None:
    """Between two reports, nothing is returned; no row is lost."""
    counter, rows = Repeats(tmp_path), distinct(400)
    counter.count(NO_ROWS)

    assert counter.count(rows) == {}
    assert counter.count(distinct(400)) == {"1h": 0, "1d": 0}
    assert counter.count(rows) == {}
    clock.now += 1
    assert counter.count(NO_ROWS) == {"1h": 400, "1d": 400}
