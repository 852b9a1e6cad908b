"""The simulated traffic is what the tables say it is."""

import numpy as np
import pytest

from tools.honesty import streams
from tools.honesty.streams import CHANGES, DAY, TRAFFIC, Change, Rows, Traffic

BY_NAME = {each.name: each for each in (*TRAFFIC, *CHANGES)}


def random() -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(8)


def drawn(name: str, minutes: int = DAY, signals: int = 2) -> Rows:
    """Draw traffic by its name."""
    traffic = BY_NAME[name]
    assert isinstance(traffic, Traffic)
    return traffic.draw(random(), minutes, signals)


def changed(name: str) -> tuple[Rows, Rows]:
    """Return a day's rows before and after a change at noon, which leaves the morning alone."""
    change = BY_NAME[name]
    assert isinstance(change, Change)
    before = Traffic("", correlation=change.correlation).draw(random(), DAY, 2)
    after = change.apply(random(), before, DAY // 2)
    morning = before.minute < DAY // 2
    np.testing.assert_array_equal(before.values[morning], after.values[morning])
    return Rows(before.minute[~morning], before.values[~morning]), Rows(
        after.minute[~morning], after.values[~morning]
    )


@pytest.mark.parametrize("name", [each.name for each in TRAFFIC])
def test_every_traffic_has_the_same_number_of_rows_in_order(name: str) -> None:
    """About sixty a minute, minute by minute, and the same ones for the same seed."""
    rows = drawn(name)

    assert len(rows.minute) == pytest.approx(DAY * streams.ROWS_PER_MINUTE, rel=0.1)
    assert (np.diff(rows.minute) >= 0).all()
    assert 0 <= rows.minute[0] <= rows.minute[-1] < DAY
    np.testing.assert_array_equal(rows.values, drawn(name).values)


@pytest.mark.parametrize("name", [each.name for each in TRAFFIC])
def test_training_rows_come_from_the_same_traffic(name: str) -> None:
    """Mean and spread of four weeks are those of the training rows."""
    traffic = BY_NAME[name]
    assert isinstance(traffic, Traffic)
    trained = traffic.train(random(), 50)
    live = traffic.draw(random(), 14 * DAY, 1).values

    assert len(trained) == streams.TRAINING_ROWS
    assert trained.mean() == pytest.approx(live.mean(), abs=0.15)
    assert trained.std() == pytest.approx(live.std(), rel=0.05)


@pytest.mark.parametrize("name", ["repeats at once", "repeats in an hour"])
def test_repeated_rows_come_ten_times(name: str) -> None:
    """Within their minute or within an hour."""
    rows = drawn(name)
    _, group, times = np.unique(rows.values[:, 0], return_inverse=True, return_counts=True)
    minutes = [rows.minute[group == each] for each in range(20)]

    assert np.median(times) == streams.REPEATS
    spread = max(int(np.ptp(each)) for each in minutes)
    assert spread == 0 if name == "repeats at once" else 30 < spread < 60


def test_rows_of_one_user_are_alike() -> None:
    """They share half of their variance."""
    rows = streams.in_bursts(random(), 200, 1)
    means = [rows.values[rows.minute == minute].mean() for minute in range(200)]

    assert np.var(means) * streams.ROWS_PER_MINUTE > 2
    assert rows.values.std() == pytest.approx(1, abs=0.05)


def test_patterns_have_their_amplitude() -> None:
    """A cycle of half a σ, a weekend of half a σ, a wandering mean of a tenth."""
    daily = streams.daily(random(), DAY, 3)
    weekly = streams.weekly(random(), 7 * DAY, 1)
    wandering = streams.wandering(random(), 7 * DAY, 40)

    np.testing.assert_allclose(daily.max(axis=0), streams.CYCLE, rtol=1e-4)
    assert weekly.mean() == pytest.approx(streams.WEEKEND * 2 / 7)
    assert wandering.std() == pytest.approx(streams.WANDERING, rel=0.2)
    assert np.abs(np.diff(wandering, axis=0)).max() < streams.WANDERING / 5


@pytest.mark.parametrize(
    ("name", "mean", "spread"),
    [
        ("mean +0.5 σ", 0.5, 1),
        ("variance × 1.5", 0, 1.5**0.5),
        ("variance × 0.7", 0, 0.7**0.5),
        ("unit × 10", 36, 10),
        ("+2 σ in 10 %", 0.2, (1 + 0.1 * 0.9 * 4) ** 0.5),
        ("correlation .6 → .3", 0, 1),
    ],
)
def test_changes_have_their_size(name: str, mean: float, spread: float) -> None:
    """Mean and standard deviation after the change are those of its name."""
    _, after = changed(name)

    assert after.values.mean() == pytest.approx(mean, abs=0.02)
    assert after.values.std() == pytest.approx(spread, rel=0.02)


def test_a_correlation_changes_and_nothing_else() -> None:
    """The pair of signals goes from .6 to .3."""
    before, after = changed("correlation .6 → .3")

    first, second = ((rows.values[:, 0] * rows.values[:, 1]).mean() for rows in (before, after))
    assert first == pytest.approx(0.6, abs=0.02)
    assert second == pytest.approx(0.3, abs=0.02)


def test_a_stuck_sensor_repeats_one_value() -> None:
    """The last one it had, in a tenth of the rows."""
    before, after = changed("10 % stuck")
    stuck = after.values[:, 0] == before.values[0, 0]

    assert stuck.mean() == pytest.approx(0.1, abs=0.01)


def test_slow_drift_goes_on() -> None:
    """0.05 σ a day: 0.025 σ after half a day."""
    before, after = changed("+0.05 σ a day")
    shift = after.values - before.values

    assert shift[0] == pytest.approx(0)
    assert shift[-1] == pytest.approx(0.025, rel=0.01)
