"""The simulation applies the formulas and the numbers of the rules."""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import yaml

from tests.support.drift import design_effect, drift
from tests.support.promtool import RULES
from tools.honesty.rules import (
    DAY,
    STATISTICS,
    THRESHOLDS,
    Comparison,
    Minutes,
    Statistics,
    Training,
    alerts,
    critical,
    divergence,
    feature_drift,
    feature_drift_sudden,
    firing,
    smooth,
)

RANDOM = np.random.default_rng(5)
TRAINING = Training(np.full(10, 128.0), kurtosis=3.0)
ALERTS = ("FeatureDrift", "FeatureDriftSudden")


def rules(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the content of every rule of a kind."""
    for path in sorted(RULES.glob("*.yml")):
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
            yield from ((rule[kind], rule) for rule in group["rules"] if kind in rule)


def expression(record: str, statistic: str | None = None) -> str:
    """Return the expression of a record, of one window where each has its own."""
    found = [
        str(rule["expr"])
        for name, rule in rules("record")
        if name in {record, f"{record}:1h"} and rule.get("labels", {}).get("statistic") == statistic
    ]
    if not found:
        pytest.skip(f"prometheus/rules does not record {record} {statistic or ''}")
    (text,) = found
    return text


def numbers(text: str) -> set[float]:
    """Return the numbers of an expression but 0 and 1, without those of labels and windows."""
    plain = re.sub(r"\{.*?\}|\[.*?\]|\(last_over_time.*?\)", "", text)
    found = re.findall(r"(?<![\w:.])\d+(?:\.\d+)?(?![\w.:])", plain)
    return {float(each) for each in found} - {0, 1}


@pytest.mark.parametrize(
    ("record", "statistic", "expected"),
    [
        ("model_feature:verdict", None, {THRESHOLDS.effect, THRESHOLDS.rows}),
        ("model_feature:psi_critical", None, {2, 9, 3, THRESHOLDS.normal_quantile}),
        (
            "model_feature:changed",
            "mean",
            {THRESHOLDS.mean, THRESHOLDS.z, THRESHOLDS.rows},
        ),
        (
            "model_feature:changed",
            "variance",
            {THRESHOLDS.log_variance, THRESHOLDS.z, THRESHOLDS.rows},
        ),
        (
            "model_feature:changed",
            "bin",
            {THRESHOLDS.bin_gain, THRESHOLDS.z_bin, THRESHOLDS.rows},
        ),
        (
            "model_pair:changed",
            None,
            {
                THRESHOLDS.correlation,
                THRESHOLDS.z_correlation,
                THRESHOLDS.rows,
                THRESHOLDS.log_variance,
            },
        ),
    ],
)
def test_thresholds_are_those_of_the_recording_rules(
    record: str, statistic: str | None, expected: set[float]
) -> None:
    """A number that changes in a rule has to change in the simulation."""
    assert numbers(expression(record, statistic)) == expected


@pytest.mark.parametrize(
    ("alert", "wait", "expected"),
    [
        ("FeatureDrift", THRESHOLDS.drift_for, {THRESHOLDS.effect_first_day}),
        ("FeatureDriftSudden", THRESHOLDS.sudden_for, set()),
        ("CorrelationDrift", THRESHOLDS.correlation_for, set()),
    ],
)
def test_thresholds_are_those_of_the_alerts(alert: str, wait: int, expected: set[float]) -> None:
    """So are the numbers of the alerts, and how long they wait and keep firing."""
    found = [rule for name, rule in rules("alert") if name == alert]
    if not found or "keep_firing_for" not in found[0]:
        pytest.skip(f"prometheus/rules has no {alert} that keeps firing")
    (rule,) = found

    assert numbers(rule["expr"]) == expected
    assert rule["for"] == f"{wait}m"
    assert rule["keep_firing_for"] == f"{THRESHOLDS.keep_firing_for // 60}h"


def test_statistics_are_recorded_as_often_as_by_the_rules() -> None:
    """The interval of a group delays the alerts that read it."""
    intervals = {
        group["name"]: group.get("interval")
        for path in RULES.glob("*.yml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
    }

    assert intervals["statistics"] == f"{THRESHOLDS.statistics_interval}m"
    assert intervals["sudden"] == f"{THRESHOLDS.sudden_interval}m"


@pytest.mark.parametrize("bins", [2, 3, 10, 11])
@pytest.mark.parametrize("rows", [150, 250, 4000])
def test_formulas_equal_those_that_promtool_is_compared_with(bins: int, rows: int) -> None:
    """PSI, noise, critical value and verdict equal tests/support/drift.py, as the rules' do."""
    random = np.random.default_rng([bins, rows])
    reference = random.multinomial(1282, np.full(bins, 1 / bins)).astype(float)
    counts = random.multinomial(rows, random.dirichlet(np.full(bins, 20.0)), size=30).astype(float)
    expected = [drift(row, reference) for row in counts]
    psi = divergence(smooth(counts), smooth(reference))
    comparison = Comparison(psi, np.full(30, 1 / rows + 1 / reference.sum()), bins)
    verdict = comparison.verdict(np.full(30, float(rows)))

    np.testing.assert_allclose(comparison.psi, [each.psi for each in expected])
    np.testing.assert_allclose(comparison.noise, [each.psi_noise for each in expected])
    np.testing.assert_allclose(
        critical(comparison.noise, bins), [each.psi_critical for each in expected]
    )
    assert np.nan_to_num(verdict, nan=-1).tolist() == [each.verdict for each in expected]


def minutes(number: int = 200, *, rows: int = 60, shift: float = 0.0) -> Minutes:
    """Return minutes of independent normal rows with deciles for bins."""
    z = RANDOM.standard_normal((number, rows)) + shift
    edges = np.array([-1.2816, -0.8416, -0.5244, -0.2533, 0, 0.2533, 0.5244, 0.8416, 1.2816])
    bins = np.searchsorted(edges, z)
    counts = np.stack([(bins == each).sum(axis=1) for each in range(10)], axis=1).astype(float)
    return Minutes(counts, z.sum(axis=1), (z**2).sum(axis=1))


def joined(*parts: Minutes) -> Minutes:
    """Return minutes one after the other."""
    counts, z, z_squared = (
        np.concatenate([getattr(each, name) for each in parts])
        for name in ("counts", "z", "z_squared")
    )
    return Minutes(counts, z, z_squared)


def test_design_effect_equals_its_definition() -> None:
    """With quiet minutes, and rows that come several times in one minute."""
    counts = 4 * minutes(90, rows=15).counts
    counts[20:40] = 0
    series = Statistics(Minutes(counts, np.zeros(90), np.zeros(90)), TRAINING)
    found = series.design_effect("1h")

    for minute in (30, 59, 75, 89):
        part = counts[max(0, minute - 59) : minute + 1]
        assert found[minute] == pytest.approx(design_effect(part, TRAINING.counts))
    assert found[89] > 2


def test_repeats_count_where_they_are_more_than_the_minutes_show() -> None:
    """Earlier occurrences c of N rows have a design effect of 1 + 2 Σc / N."""
    clean = minutes(60)
    repeated = Minutes(clean.counts, clean.z, clean.z_squared, {"1h": np.full(60, 120.0)})

    assert Statistics(repeated, TRAINING).design_effect("1h")[-1] == pytest.approx(5)
    assert Statistics(repeated, TRAINING).design_effect("1d")[-1] < 2


def test_too_few_effective_rows_give_no_verdict() -> None:
    """Below 200 rows there is no answer, neither about the PSI nor about the rest."""
    series = Statistics(minutes(3), TRAINING)

    for statistic in STATISTICS:
        assert np.isnan(series.changed(statistic, "training")).all()


def test_moments_equal_those_of_the_rows() -> None:
    """Mean and variance of the hour are exact."""
    stream = minutes(100)
    series = Statistics(stream, TRAINING)

    assert series.means["1h"][-1] == pytest.approx(stream.z[-60:].sum() / 3600)
    assert series.variances["1h"][-1] == pytest.approx(
        stream.z_squared[-60:].sum() / 3600 - series.means["1h"][-1] ** 2
    )


def test_yesterday_is_the_same_hour_a_day_before() -> None:
    """A mean higher since today differs from yesterday's; one that always was does not."""
    today = Statistics(joined(minutes(DAY), minutes(120, shift=0.5)), TRAINING)
    always = Statistics(minutes(DAY + 120, shift=0.5), TRAINING)

    assert np.isnan(today.changed("mean", "yesterday")[DAY - 1])
    assert today.changed("mean", "yesterday")[-1] == 1
    assert always.changed("mean", "training")[-1] == 1
    assert always.changed("mean", "yesterday")[-1] == 0
    assert feature_drift_sudden(today, "mean")[-1]
    assert not feature_drift_sudden(always, "mean").any()


def test_what_last_week_had_as_well_is_no_sudden_change() -> None:
    """The same weekday a week ago was like this: no alarm."""
    week = [minutes(DAY, shift=0.5 if day == 0 else 0.0) for day in range(7)]
    series = Statistics(joined(*week, minutes(120, shift=0.5)), TRAINING)

    assert series.changed("mean", "yesterday")[-1] == 1
    assert not feature_drift_sudden(series, "mean")[-1]


def test_the_first_day_needs_a_larger_effect() -> None:
    """0.5 σ is drift only after a day; 1 σ is at once."""
    half, whole = (Statistics(minutes(DAY + 10, shift=sigma), TRAINING) for sigma in (0.45, 1.0))

    assert not feature_drift(half)[300:DAY].any()
    assert feature_drift(half)[DAY:].all()
    assert feature_drift(whole)[300:].all()


@pytest.mark.parametrize(
    ("holds", "expected"),
    [
        ([(10, 15)], []),
        ([(10, 16)], [(15, 26)]),
        ([(10, 20), (29, 31)], [(15, 41)]),
        ([(10, 20), (31, 33)], [(15, 30)]),
        ([(10, 20), (40, 50)], [(15, 30), (45, 60)]),
    ],
)
def test_alerts_wait_and_keep_firing(
    holds: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    """`for: 5m` needs six evaluations; for ten minutes after the last, the alert stays."""
    condition = np.zeros(100, bool)
    for start, end in holds:
        condition[start:end] = True

    assert [*firing(condition, wait=5, keep=10)] == expected


def test_each_kind_of_change_has_its_alert() -> None:
    """A mean, a spread and a stuck value are seen by their own statistics within two hours."""
    clean, after = minutes(DAY + 120), minutes(180)
    wide = Minutes(after.counts, 1.4 * after.z, 2 * after.z_squared)
    counts = 0.8 * after.counts
    counts[:, 5] += 12
    stuck = Minutes(counts, after.z, after.z_squared)
    shifted = minutes(180, shift=0.4)

    for changed, statistic in ((wide, "variance"), (stuck, "bin"), (shifted, "mean")):
        found = alerts(joined(clean, changed), TRAINING)
        ((start, _),) = found[f"sudden {statistic}"]
        assert DAY + 120 + 30 < start <= DAY + 240
    assert alerts(joined(clean, after), TRAINING) == {
        name: [] for name in ("drift", *(f"sudden {each}" for each in STATISTICS))
    }
