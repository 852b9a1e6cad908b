"""The simulation equals the rules: the same statistics, and alerts to within a minute."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundle.arrays import Floats
from tests.support.promtool import RULES, check, selector, series
from tools.honesty import study
from tools.honesty.rules import STATISTICS, THRESHOLDS, Minutes, Statistics, Training, alerts
from tools.honesty.streams import Change

pytestmark = pytest.mark.skipif(
    not (RULES / "statistics.yml").exists(), reason="prometheus/rules has no statistics.yml"
)

SIGNAL = {"job": "model", "model": "loans", "version": "a", "feature": "amount"}
TARGET = {"instance": "0:8001"}
# The rows of minute 0 are scraped at 1, and counted by the evaluation at 2.
LATE = 2
AGE = 1_500


def inputs(minutes: Minutes, training: Training) -> Iterator[dict[str, str]]:
    """Yield what one instance exports, a sample a minute from before the first row."""
    labels = SIGNAL | TARGET
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


def cumulative(values: Floats) -> Floats:
    """Return a counter from a minute before the first value."""
    return np.concatenate([[0], values.cumsum()])


def constant(name: str, labels: dict[str, str], value: float, minutes: Minutes) -> dict[str, str]:
    """Return a gauge that does not change."""
    return series(name, labels, np.full(len(minutes.z) + 1, value))


def recorded(name: str, labels: dict[str, str], value: float, minute: int) -> dict[str, Any]:
    """Expect one series to be within a millionth of `value`, or to be absent where it is NaN."""
    found = selector(name, SIGNAL | labels)
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
    found = selector("ALERTS", SIGNAL | labels | {"alertname": alert, "alertstate": "firing"})
    return {
        "expr": f"count({found})",
        "eval_time": f"{minute + LATE}m",
        "exp_samples": [{"labels": "{}", "value": 1}] if is_firing else [],
    }


def statistics(of: Statistics, minute: int) -> Iterator[dict[str, Any]]:
    """Yield what must be recorded at a minute."""
    for window, rows in of.effective_rows.items():
        yield recorded("model_feature:effective_rows", {"window": window}, rows[minute], minute)
    for reference in ("training", "yesterday"):
        psi = of.compare("1h", reference).psi[minute]
        labels = {"window": "1h", "reference": reference}
        yield recorded("model_feature:psi", labels, psi, minute)
        for statistic in STATISTICS:
            changed = of.changed(statistic, reference)[minute]
            there = labels | {"statistic": statistic}
            yield recorded("model_feature:changed", there, changed, minute)


def test_simulated_alerts_fire_when_the_real_ones_do(tmp_path: Path) -> None:
    """A day of clean traffic, then a change that every statistic sees."""
    change = Change("everything", lambda _, values, __: 1.5 * values + 0.5)
    stream, at = study.changed(change, AGE, 0, 12)
    minutes, training = next(study.count(stream))
    end = at + 200
    minutes = Minutes(minutes.counts[:end], minutes.z[:end], minutes.z_squared[:end])
    # promtool evaluates every group every minute.
    found = alerts(minutes, training, replace(THRESHOLDS, sudden_interval=1))
    expected = [
        each
        for minute in (45, 700, 1441, 1490, at + 20, at + 45, at + 150)
        for each in statistics(Statistics(minutes, training), minute)
    ]
    for name, intervals in found.items():
        statistic = name.removeprefix("sudden ")
        alert = "FeatureDrift" if statistic == name else "FeatureDriftSudden"
        labels = {} if statistic == name else {"statistic": statistic}
        starts = [start for start, _ in intervals]
        # A group that runs before that of the statistics reads those of a minute ago.
        expected += [fires(alert, labels, start + 1, is_firing=True) for start in starts]
        before = [start - 1 for start in starts] or [end - 1]
        expected += [fires(alert, labels, minute, is_firing=False) for minute in before]

    assert all(found[f"sudden {statistic}"] for statistic in STATISTICS)
    check(tmp_path, "1m", [*inputs(minutes, training)], expected)
