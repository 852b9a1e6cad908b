"""Numbers as the report shows them, and the ticks of its axes."""

import math

import pytest

from tools.report.ticks import axis
from tools.report.units import is_known, show


@pytest.mark.parametrize(
    ("value", "unit", "decimals", "text"),
    [
        (0.0123, "percentunit", 1, "1.2 %"),
        (1.0, "percentunit", None, "100 %"),
        (0.9995, "percentunit", 2, "99.95 %"),
        (-0.0001, "percentunit", 0, "0 %"),
        (0.00269, "s", None, "2.69 ms"),
        (66.0, "s", None, "1.1 min"),
        (0.0, "s", None, "0 s"),
        (7200.0, "s", None, "2 h"),
        (23905.0, "locale", 0, "23,905"),
        (23905.0, "short", None, "23.9 K"),
        (-0.79, "suffix: σ", 2, "−0.79 σ"),
        (2048.0, "bytes", None, "2 KiB"),
        (10.04, "reqps", 1, "10.0 req/s"),
        (3.0, "short", None, "3"),
        (math.inf, "short", None, "∞"),
    ],
)
def test_a_number_is_shown_in_its_unit(
    value: float, unit: str, decimals: int | None, text: str
) -> None:
    """With the decimals that the panel asks for, else with three significant digits."""
    assert show(value, unit, decimals) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1 second ago"), (90, "2 minutes ago"), (7200, "2 hours ago"), (400000, "5 days ago")],
)
def test_a_moment_is_shown_as_its_age(seconds: int, text: str) -> None:
    """Moments are in milliseconds, as in Grafana, and the present is the end of the range."""
    assert show(1000.0 * (10**9 - seconds), "dateTimeFromNow", now=1e9) == text


def test_an_unknown_unit_is_known_to_be_one() -> None:
    """Only units that are shown as Grafana shows them count as known."""
    assert is_known("percentunit")
    assert is_known("suffix:×")
    assert not is_known("velocityknot")


def test_ticks_are_round_and_tell_neighbours_apart() -> None:
    """There are few, and their texts have as many decimals as they need."""
    found = axis([0.0, 0.15], {"unit": "percentunit", "min": 0})

    assert list(found.texts) == ["0 %", "5 %", "10 %", "15 %"]
    assert found.low == 0


@pytest.mark.parametrize(
    "config",
    [
        {"unit": "s", "min": 0, "custom": {"axisSoftMax": 0.3}},
        {"unit": "short", "custom": {"axisSoftMin": -0.5, "axisSoftMax": 0.5}},
        {"unit": "percentunit", "custom": {"axisCenteredZero": True}},
        {"unit": "bytes", "min": 0},
        {"unit": "short", "min": 0, "max": 0},
    ],
)
@pytest.mark.parametrize("values", [[], [0.0], [0.0, 0.0], [-2.0, 3.0], [7e6], [math.nan, 1e-9]])
def test_every_axis_has_a_range_and_ticks_within_it(
    values: list[float], config: dict[str, object]
) -> None:
    """Zeros, one value, none, or huge ones: the axis is never empty or upside down."""
    found = axis(values, config)

    assert found.low < found.high
    assert 1 <= len(found.values) <= 12
    assert all(found.low - 1e-9 <= tick <= found.high + 1e-9 for tick in found.values)
    assert len(set(found.texts)) == len(found.texts)


def test_a_logarithmic_axis_has_a_tick_per_power_of_ten() -> None:
    """So 5 ms and an objective of 300 ms have room on one axis; below 0 there is none."""
    config = {
        "unit": "s",
        "min": 0.001,
        "custom": {"scaleDistribution": {"type": "log", "log": 10}},
    }

    found = axis([0.0025, 0.005, 1.0], config)
    without = axis([0.0, 1.0], {**config, "min": 0})

    assert found.logarithmic
    assert found.texts == ["1 ms", "10 ms", "100 ms", "1 s"]
    assert found.low == 0.001
    assert not without.logarithmic


def test_limits_of_the_panel_hold() -> None:
    """A soft limit widens the axis, a hard one cuts it, and a centred one is symmetric."""
    soft = axis([0.01], {"min": 0, "custom": {"axisSoftMax": 0.2}})
    hard = axis([5.0], {"min": 0, "max": 1})
    centred = axis([-1.0, 4.0], {"custom": {"axisCenteredZero": True}})

    assert soft.high >= 0.2
    assert axis([0.98, 0.99], {"min": 0}).high > 1.03
    assert (hard.low, hard.high) == (0, 1)
    assert centred.low == -centred.high
