"""The simulation equals the rules: the same statistics, and alerts to within a minute."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from bundle.arrays import Floats
from tests.support.promtool import RULES, check, selector, series
from tools.honesty import study
from tools.honesty.rules import (
    STATISTICS,
    THRESHOLDS,
    Correlation,
    Minutes,
    Statistics,
    Training,
    alerts,
    pair_alerts,
)
from tools.honesty.streams import Change, decorrelate, shift
from tools.honesty.study import Stream

pytestmark = pytest.mark.skipif(
    not (RULES / "statistics.yml").exists(), reason="prometheus/rules has no statistics.yml"
)

MODEL = {"job": "model", "model": "loans", "version": "a"}
PAIR = MODEL | {"pair": "age and income"}
TARGET = {"instance": "0:8001"}
# The rows of minute 0 are scraped at 1, counted by the evaluation at 2, and in a window at 3.
LATE = 3
AGE, END = 1_500, 1_700
# What happens to which feature after a clean day.
EVERYTHING = Change("everything", lambda _, values, __: 1.5 * values + 0.5)
SHIFTS = {"whole": Change("mean", shift(1.0)), "half": Change("mean", shift(0.5))}
CORRELATION = Change("correlation", decorrelate(0.6, 0.3), correlation=0.6)
# promtool evaluates every group every minute.
EVERY_MINUTE = replace(THRESHOLDS, statistics_interval=1, sudden_interval=1)

Part = tuple[list[dict[str, str]], list[dict[str, Any]]]


def inputs(minutes: Minutes, training: Training, feature: str) -> Iterator[dict[str, str]]:
    """Yield what one instance exports, a sample a minute from before the first row."""
    labels = MODEL | {"feature": feature} | TARGET
    for index, (rows, ratio) in enumerate(zip(minutes.counts.T, training.ratio, strict=True)):
        bin_ = labels | {"bin": f"{index:02}"}
        yield series("model_feature_bin_total", bin_, cumulative(rows))
        yield constant("model_feature_reference_ratio", bin_, ratio, minutes)
    # Only the difference of both signs counts.
    for sign, sums in (("pos", minutes.z + 1e3), ("neg", np.full(len(minutes.z), 1e3))):
        yield series("model_feature_zscore_sum_total", labels | {"sign": sign}, cumulative(sums))
    yield series("model_feature_zscore_squared_sum_total", labels, cumulative(minutes.z_squared))
    yield constant("model_feature_reference_rows", labels, training.counts.sum(), minutes)
    yield constant("model_feature_reference_kurtosis", labels, training.kurtosis, minutes)
    process = {name: value for name, value in labels.items() if name != "feature"}
    yield constant("model_start_time_seconds", process, 0, minutes)


def pair_inputs(pair: Correlation, minutes: Minutes) -> Iterator[dict[str, str]]:
    """Yield what it exports about the pair of two features."""
    labels, training = PAIR | TARGET, pair.training
    yield series("model_feature_pair_total", labels, cumulative(minutes.counts.sum(axis=1)))
    for sign, sums in (("pos", pair.products + 1e3), ("neg", np.full(END, 1e3))):
        there = labels | {"sign": sign}
        yield series("model_feature_pair_zscore_sum_total", there, cumulative(sums))
    name = "model_feature_pair_reference"
    for feature in PAIR["pair"].split(" and "):
        there = labels | {"feature": feature}
        yield constant(f"{name}_correlation", there, training.correlation, minutes)
    yield constant(f"{name}_variance", labels, training.variance, minutes)
    yield constant(f"{name}_rows", labels, training.rows, minutes)


def cumulative(values: Floats) -> Floats:
    """Return a counter from a minute before the first value."""
    return np.concatenate([[0], values.cumsum()])


def constant(name: str, labels: dict[str, str], value: float, minutes: Minutes) -> dict[str, str]:
    """Return a gauge that does not change."""
    return series(name, labels, np.full(len(minutes.z) + 1, value))


def recorded(name: str, labels: dict[str, str], value: float, minute: int) -> dict[str, Any]:
    """Expect one series to be within a millionth of `value`, or to be absent where it is NaN."""
    found = selector(name, MODEL | labels)
    samples = [] if np.isnan(value) else [{"labels": "{}", "value": 1}]
    return {
        "expr": f"sum(abs({found} / {float(value)!r} - 1) < bool 1e-6)"
        if value
        else f"1 - sum({found})",
        "eval_time": f"{minute + LATE}m",
        "exp_samples": samples,
    }


def fires(alert: str, labels: dict[str, str], minute: int, *, is_firing: bool) -> dict[str, Any]:
    """Expect an alert to fire at a minute, or not to."""
    found = selector("ALERTS", labels | {"alertname": alert, "alertstate": "firing"})
    return {
        "expr": f"count({found})",
        "eval_time": f"{minute + LATE}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if is_firing else [],
    }


def statistics(of: Statistics, minute: int, feature: str) -> Iterator[dict[str, Any]]:
    """Yield what must be recorded at a minute."""
    own = {"feature": feature}
    for window, rows in of.effective_rows.items():
        labels = own | {"window": window}
        yield recorded("model_feature:effective_rows", labels, rows[minute], minute)
    for reference in ("training", "yesterday"):
        psi = of.compare("1h", reference).psi[minute]
        labels = own | {"window": "1h", "reference": reference}
        yield recorded("model_feature:psi", labels, psi, minute)
        for statistic in STATISTICS:
            changed = of.changed(statistic, reference)[minute]
            there = labels | {"statistic": statistic}
            yield recorded("model_feature:changed", there, changed, minute)


def correlations(of: Correlation, minute: int) -> Iterator[dict[str, Any]]:
    """Yield what must be recorded about the pair at a minute."""
    for window, values in of.correlation.items():
        labels = PAIR | {"window": window}
        yield recorded("model_pair:correlation", labels, values[minute], minute)
        rows = of.effective_rows(window)[minute]
        yield recorded("model_pair:effective_rows", labels, rows, minute)
    for window, reference in (("1h", "training"), ("1d", "training"), ("1h", "yesterday")):
        changed = of.changed(window, reference)[minute]
        labels = PAIR | {"window": window, "reference": reference}
        yield recorded("model_pair:changed", labels, changed, minute)


def counted(change: Change) -> tuple[Stream, list[tuple[Minutes, Training]]]:
    """Return a stream that changes at AGE, and what is counted of its signals until END."""
    stream, at = study.changed(change, AGE, 0, 12)
    assert at == AGE
    return stream, [
        (Minutes(each.counts[:END], each.z[:END], each.z_squared[:END]), training)
        for each, training in study.count(stream)
    ]


def everything() -> Part:
    """Return a feature of which every statistic changes, and each alert about it."""
    _, [(minutes, training), _] = counted(EVERYTHING)
    found = alerts(minutes, training, EVERY_MINUTE)
    assert all(found[f"sudden {statistic}"] for statistic in STATISTICS)
    expected = [
        each
        for minute in (45, 700, 1441, 1490, AGE + 20, AGE + 45, AGE + 150)
        for each in statistics(Statistics(minutes, training), minute, "amount")
    ]
    for name, intervals in found.items():
        statistic = name.removeprefix("sudden ")
        alert = "FeatureDrift" if statistic == name else "FeatureDriftSudden"
        labels = MODEL | {"feature": "amount"}
        labels |= {} if statistic == name else {"statistic": statistic}
        starts = [start for start, _ in intervals]
        # A group that runs before that of the statistics reads those of a minute ago.
        expected += [fires(alert, labels, start + 1, is_firing=True) for start in starts]
        before = [start - 1 for start in starts] or [END - 1]
        expected += [fires(alert, labels, minute, is_firing=False) for minute in before]
    return [*inputs(minutes, training, "amount")], expected


def shifted(feature: str) -> Part:
    """Return a feature whose mean moves, and its first alert: the day is still that of before."""
    _, [(minutes, training), _] = counted(SHIFTS[feature])
    found = alerts(minutes, training, EVERY_MINUTE)
    start, name = min((start, name) for name, times in found.items() for start, _ in times)
    labels = MODEL | {"feature": feature}
    assert name.startswith("sudden ")
    assert 30 < start - AGE < {"whole": 50, "half": 75}[feature]
    return [*inputs(minutes, training, feature)], [
        fires("FeatureDriftSudden", labels, start - 1, is_firing=False),
        fires(
            "FeatureDriftSudden",
            labels | {"statistic": name.removeprefix("sudden ")},
            start + 1,
            is_firing=True,
        ),
        fires("FeatureDrift", labels, AGE + 80, is_firing=False),
    ]


def correlated() -> Part:
    """Return two features of which only the correlation changes; it is NumPy's."""
    stream, both = counted(CORRELATION)
    [(_, pair)] = study.pairs(stream, [Statistics(*each) for each in both])
    pair.products = pair.products[:END]
    [(start, _)] = pair_alerts(pair, EVERY_MINUTE)
    hour = (stream.rows.minute > AGE + 40) & (stream.rows.minute <= AGE + 100)
    exact = stats.pearsonr(*stream.rows.values[hour].T).statistic
    assert pair.correlation["1h"][AGE + 100] == pytest.approx(exact)
    assert 40 < start - AGE < 90
    first, second = (
        inputs(*each, feature)
        for each, feature in zip(both, PAIR["pair"].split(" and "), strict=True)
    )
    return [*first, *second, *pair_inputs(pair, both[0][0])], [
        *(
            each
            for minute in (2, 45, 700, 1441, 1490, AGE + 20, AGE + 60, AGE + 100)
            for each in correlations(pair, minute)
        ),
        fires("CorrelationDrift", PAIR, start - 1, is_firing=False),
        fires("CorrelationDrift", PAIR, start + 1, is_firing=True),
    ]


@pytest.mark.timeout(900)
def test_simulated_alerts_fire_when_the_real_ones_do(tmp_path: Path) -> None:
    """A day of clean traffic, then changes: statistics are equal, and alerts fire on the minute.

    One run of promtool for all features, because it takes a minute of one core.
    """
    parts = [everything(), shifted("whole"), shifted("half"), correlated()]

    check(
        tmp_path,
        "1m",
        [each for given, _ in parts for each in given],
        [each for _, expected in parts for each in expected],
    )
