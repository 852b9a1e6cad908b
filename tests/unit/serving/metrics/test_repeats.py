"""Repeated rows are counted as the design effect needs them."""

import fcntl
import multiprocessing
import os
from itertools import permutations, product
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
        if counter.add(rows[start : start + BATCH]):
            found += counter.count()[span]
    clock.now += 1
    counter.add(rows[:0])
    return found + counter.count()[span]


def design_effect(directory: Path, rows: Floats, clock: Clock) -> float:
    """Return 1 + 2·Σc/N."""
    return 1 + 2 * occurrences(Repeats(directory, FEATURES), rows, clock) / len(rows)


@pytest.mark.parametrize("span", ["1h", "1d"])
@pytest.mark.parametrize("uptime", [1.0, 0.5 * HOUR, 10 * HOUR])
def test_a_machine_that_has_just_started_counts_as_well(
    tmp_path: Path, clock: Clock, uptime: float, span: Span
) -> None:
    """The clock begins at 0 when the machine starts, and empty memory has the generation 0."""
    clock.now = uptime
    rows = np.tile(distinct(100), (10, 1))

    assert occurrences(Repeats(tmp_path, FEATURES), rows, clock, span) == 100 * 45


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
    first, second = Repeats(tmp_path, FEATURES), Repeats(tmp_path, FEATURES)
    rows = distinct(100)

    found = [occurrences(each, rows, clock) for each in (first, second, first, second)]

    assert found == [0, 100, 200, 300]


def _count_in_a_worker(directory: Path, rows: Floats) -> None:
    counter = Repeats(directory, FEATURES)
    counter.add(rows)
    counter.count()


def test_forked_workers_agree_on_fingerprints(tmp_path: Path, clock: Clock) -> None:
    """Gunicorn forks its workers from one process, so their hashes have the same key."""
    rows = distinct(30)
    counter = Repeats(tmp_path, FEATURES)
    worker = multiprocessing.get_context("fork").Process(
        target=_count_in_a_worker, args=(tmp_path, rows)
    )
    worker.start()
    worker.join(60)

    assert worker.exitcode == 0
    assert occurrences(counter, rows, clock) == 30


@pytest.mark.parametrize(
    "values", [(-1.0, 1.0), (0.0, 1.0), (2.0**-40, 2.0**40), (float("nan"), 0.0)]
)
def test_rows_that_differ_in_few_bits_are_distinct(
    tmp_path: Path, clock: Clock, values: tuple[float, float]
) -> None:
    """All 4,096 combinations of two values, with signs, small integers and powers of two."""
    rows = np.array([*product(values, repeat=12)])

    assert occurrences(Repeats(tmp_path, 12), rows, clock) == 0


def test_equal_values_in_other_columns_are_another_row(tmp_path: Path, clock: Clock) -> None:
    """The order of the values matters."""
    rows = np.array([*permutations([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])])

    assert occurrences(Repeats(tmp_path, 6), rows, clock) == 0


def test_missing_values_are_equal_to_each_other(tmp_path: Path, clock: Clock) -> None:
    """A row without a value that comes again is a repeat."""
    row = np.array([[1.0, float("nan"), 2.0]])
    counter = Repeats(tmp_path, FEATURES)

    assert occurrences(counter, row, clock) == 0
    assert occurrences(counter, row.copy(), clock) == 1


@pytest.mark.parametrize(("span", "seconds"), [("1h", HOUR), ("1d", DAY)])
def test_repeats_spread_over_the_window_have_the_design_effect_of_the_window(
    span: Span, seconds: float, tmp_path: Path, clock: Clock
) -> None:
    """Each row comes 24 times per window, evenly: the estimate is 24 to within a tenth."""
    rows, counter = distinct(20), Repeats(tmp_path, FEATURES)
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
    rows, counter = distinct(1), Repeats(tmp_path, FEATURES)
    occurrences(counter, rows, clock)
    clock.now += HOUR

    counter.add(rows)
    assert counter.count() == {"1h": 0, "1d": 1}


def test_the_sample_grows_again_when_there_are_few_rows(tmp_path: Path, clock: Clock) -> None:
    """After quiet generations each occurrence counts as one, not as several."""
    counter = Repeats(tmp_path, FEATURES)
    for _ in range(4):
        occurrences(counter, distinct(repeats.MAX_REMEMBERED), clock)
    for _ in range(8):
        clock.now += HOUR / 3
        occurrences(counter, distinct(1), clock)
    row = distinct(1)
    occurrences(counter, row, clock)

    assert occurrences(counter, row, clock) == 1


def test_rows_that_wait_are_counted_once(tmp_path: Path) -> None:
    """Those of several batches together; then there is nothing to count."""
    counter, rows = Repeats(tmp_path, FEATURES), distinct(10)
    counter.add(rows)
    counter.add(rows[:4])

    assert counter.count() == {"1h": 4, "1d": 4}
    assert counter.count() == {}


def _until_full(counter: Repeats, row: Floats) -> int:
    waiting = 1
    while not counter.add(row):
        waiting += 1
    return waiting


@pytest.mark.parametrize("features", [1, 4, 500])
def test_few_rows_and_little_memory_wait(tmp_path: Path, features: int) -> None:
    """At most 200 rows, or a few of a hundred that were counted, and never a megabyte."""
    counter, row = Repeats(tmp_path, features), np.zeros((1, features))
    memory = -(-(1 << 20) // (8 * features))
    counted, waiting = 0, 0
    while counted < 64 * repeats.MAX_PENDING:
        waiting = _until_full(counter, row)
        assert waiting == min(max(counted // 32, repeats.MIN_PENDING), repeats.MAX_PENDING, memory)
        earlier = range(counted, counted + waiting)
        assert counter.count()["1h"] == sum(earlier)
        counted += waiting

    assert waiting == min(repeats.MAX_PENDING, memory)


def test_a_worker_does_not_wait_for_another_one_that_counts(tmp_path: Path) -> None:
    """It keeps its rows, up to two megabytes: the other one may be stopped for hours."""
    counter, count = Repeats(tmp_path, FEATURES), (1 << 20) // (8 * FEATURES) + 1
    rows = np.tile(distinct(1), (count, 1))
    other = os.open(tmp_path / repeats.REPEATS_FILE, os.O_RDWR)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        counter.add(rows)
        assert counter.count() == {}
        counter.add(rows)
        assert counter.count()["1h"] == sum(range(2 * count))

        counter.add(rows)
        assert counter.count() == {}
    finally:
        os.close(other)
    assert counter.count()["1h"] == sum(range(2 * count, 3 * count))


def _count_slowly(directory: Path, rows: Floats, found: "multiprocessing.Queue[int]") -> None:
    """Count rows one by one, as often as another worker does at the same time."""
    counter, earlier = Repeats(directory, FEATURES), 0
    result: dict[Span, int] = {}
    for row in rows:
        counter.add(row[None])
        result = counter.count()
        earlier += result.get("1h", 0)
    while not result:
        result = counter.count()
        earlier += result.get("1h", 0)
    found.put(earlier)


def test_workers_that_count_at_once_lose_no_occurrence(tmp_path: Path) -> None:
    """Two of them count the same thousand rows: all occurrences but the first are earlier ones."""
    context = multiprocessing.get_context("fork")
    found: multiprocessing.Queue[int] = context.Queue()
    rows = np.tile(distinct(5), (200, 1))
    workers = [
        context.Process(target=_count_slowly, args=(tmp_path, rows, found)) for _ in range(2)
    ]
    for each in workers:
        each.start()
    total = sum(found.get(timeout=60) for _ in workers)
    for each in workers:
        each.join(60)

    assert total == 5 * 400 * 399 // 2
