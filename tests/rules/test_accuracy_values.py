"""Every series that the accuracy rules record equals NumPy on the same labels, to 1e-6."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from bundle.arrays import Floats
from tests.support.accuracy import accuracy
from tests.support.promtool import RULES, absent, check, equals, run, series

HOUR, DAY = 60, 24 * 60
WINDOWS = {"1h": HOUR, "1d": DAY}
AGES = ("1h", "1d", "7d", "older")
LABELS = {"job": "model", "model": "loans", "version": "a"}
# What validation found: errors of 1,282 rows, and the mean |error| of each bin of the prediction.
PROMISED = {"cv_mae": 0.508, "cv_rmse": 0.657, "mae": 0.49, "rmse": 0.63}
TRAINING_ROWS = 1282
BIN_ERRORS = np.array([0.473, 0.26, 0.426, 0.536, 0.601])


@dataclass(frozen=True)
class Feedback:
    """The labels of one version, one array entry each, and its predictions per scrape and bin.

    A label arrives at `pod` before scrape number `scrape`; `age` is an index into AGES.
    """

    scrape: npt.NDArray[np.intp]
    pod: npt.NDArray[np.intp]
    age: npt.NDArray[np.intp]
    error: Floats
    delay: Floats
    predicted: Floats
    version: str = "a"
    scrapes_a_minute: int = 4

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of a statistic: exactly these."""
        return LABELS | {"version": self.version}

    def inputs(self) -> Iterator[dict[str, str]]:
        """Yield what every pod exports, each under target labels of its own."""
        for pod in range(self.predicted.shape[1]):
            target = {"instance": f"{pod}:8001", "pod": f"model-{pod}"}
            for index, age in enumerate(AGES):
                labels = self.labels | target | {"age": age}
                for name, more, amounts in self._families():
                    mine = (self.pod == pod) & (self.age == index)
                    counter = np.bincount(self.scrape[mine], amounts[mine], len(self.predicted))
                    yield series(f"model_feedback{name}_total", labels | more, counter.cumsum())
            for statistic, value in PROMISED.items():
                fact = self.labels | target | {"statistic": statistic}
                yield series("model_validation_error", fact, self._always(value))
            for index, value in enumerate(BIN_ERRORS):
                bin_ = self.labels | target | {"bin": f"{index:02}"}
                yield series("model_prediction_bin_absolute_error", bin_, self._always(value))
                rows = self.predicted[:, pod, index].cumsum()
                yield series("model_feature_bin_total", bin_ | {"feature": "prediction"}, rows)
            rows_fact = self.labels | target | {"feature": "prediction"}
            yield series("model_feature_reference_rows", rows_fact, self._always(TRAINING_ROWS))

    def _families(self) -> Iterator[tuple[str, dict[str, str], Floats]]:
        yield "", {}, np.ones_like(self.error)
        yield "_absolute_error_sum", {}, np.abs(self.error)
        yield "_squared_error_sum", {}, self.error**2
        yield "_quartic_error_sum", {}, self.error**4
        yield "_error_sum", {"sign": "pos"}, np.maximum(self.error, 0)
        yield "_error_sum", {"sign": "neg"}, np.maximum(-self.error, 0)
        yield "_delay_seconds_sum", {}, self.delay

    def _always(self, value: float) -> Floats:
        return np.full(len(self.predicted), float(value))

    def _bounds(self, window: str, minute: int) -> tuple[int, int]:
        # The rules look back by 15 s: the scrape at `minute` itself is not in yet.
        end = minute * self.scrapes_a_minute
        # What the first scrape found is the baseline: nobody knows when it came.
        return max(1, end - WINDOWS[window] * self.scrapes_a_minute), end

    def window(self, window: str, minute: int) -> npt.NDArray[np.bool_]:
        """Return which labels arrived in the window that ends at `minute`."""
        start, end = self._bounds(window, minute)
        return (self.scrape >= start) & (self.scrape < end)

    def expected(self, window: str, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record of the window that ends at `minute`."""
        chosen = self.window(window, minute)
        for name, value in self._whole(window, minute, chosen).items():
            yield equals(f"model:{name}:{window}", self.labels, value, minute)
        for index, age in enumerate(AGES):
            errors = self.error[chosen & (self.age == index)]
            values = accuracy(errors) | {
                "feedback_rows": len(errors),
                "absolute_error_sum": np.abs(errors).sum(),
                "squared_error_sum": (errors**2).sum(),
                "quartic_error_sum": (errors**4).sum(),
                "error_sum": errors.sum(),
            }
            for name, value in values.items():
                labels = self.labels | {"age": age}
                yield equals(f"model_age:{name}:{window}", labels, value, minute)

    def _whole(self, window: str, minute: int, chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
        start, end = self._bounds(window, minute)
        rows = self.predicted[start:end].sum(axis=(0, 1))
        judged = accuracy(self.error[chosen])
        expected_mae = float(np.average(BIN_ERRORS, weights=rows))
        near_end = judged["mae"] - np.hypot(judged["mae_ci95"], promised_ci95())
        values = judged | {
            "feedback_rows": float(chosen.sum()),
            "feedback_delay_seconds": float(self.delay[chosen].mean()),
            "feedback_coverage": float(chosen.sum() / rows.sum()),
            "expected_mae": expected_mae,
        }
        if chosen.sum() >= 200:
            values["mae_excess"] = float(near_end / PROMISED["cv_mae"] - 1)
            values["mae_gap"] = float(near_end / expected_mae - 1)
        return values

    def parts(self, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what the windows are made of, and what was promised."""
        first = (minute - 1) * self.scrapes_a_minute
        new = (self.scrape >= first) & (self.scrape < first + self.scrapes_a_minute)
        for name, more, amounts in self._families():
            metric = {
                "": "model_age:feedback_rows:1m",
                "_delay_seconds_sum": "model_age:feedback_delay_seconds_sum:1m",
                "_error_sum": "model_age_sign:error_sum:1m",
            }.get(name, f"model_age:{name[1:]}:1m")
            for index, age in enumerate(AGES):
                value = amounts[new & (self.age == index)].sum()
                yield equals(metric, self.labels | {"age": age} | more, value, minute)
        yield equals("model:promised_mae", self.labels, PROMISED["cv_mae"], minute)
        yield equals("model:promised_rmse", self.labels, PROMISED["cv_rmse"], minute)
        yield equals("model:promised_mae_ci95", self.labels, promised_ci95(), minute)
        for index, value in enumerate(BIN_ERRORS):
            bin_ = self.labels | {"bin": f"{index:02}"}
            yield equals("model_prediction_bin:absolute_error", bin_, value, minute)


def promised_ci95() -> float:
    """Return half the width of the promise's own interval."""
    variance = PROMISED["cv_rmse"] ** 2 - PROMISED["cv_mae"] ** 2
    return float(1.96 * np.sqrt(variance / TRAINING_ROWS))


def arrivals(  # noqa: PLR0913 each test names the few that matter to it
    seed: int,
    minutes: int,
    per_minute: float,
    *,
    bias: float = 0.0,
    version: str = "a",
    pods: int = 2,
    scrapes_a_minute: int = 4,
) -> Feedback:
    """Return labels that arrive at random, and predictions at a rate of 8 a scrape and pod."""
    rng = np.random.default_rng(seed)
    size, scrapes = rng.poisson(minutes * per_minute), minutes * scrapes_a_minute + 1
    weights = rng.dirichlet(np.full(len(BIN_ERRORS), 5.0))
    return Feedback(
        scrape=rng.integers(1, scrapes, size),
        pod=rng.integers(0, pods, size),
        age=rng.integers(0, len(AGES), size),
        error=rng.laplace(bias, 0.5, size),
        delay=rng.gamma(2, 900, size),
        predicted=rng.poisson(8 * weights, (scrapes, pods, len(weights))).astype(float),
        version=version,
        scrapes_a_minute=scrapes_a_minute,
    )


def verify(folder: Path, streams: list[Feedback], minutes: dict[str, list[int]]) -> None:
    """Compare all that is recorded of `streams` at the minutes of each window."""
    check(
        folder,
        "15s" if streams[0].scrapes_a_minute == 4 else "1m",
        [entry for stream in streams for entry in stream.inputs()],
        [
            entry
            for window, ends in minutes.items()
            for end in ends
            for stream in streams
            for entry in stream.expected(window, end)
        ],
    )


def test_hour_equals_numpy_for_pods_and_versions(tmp_path: Path) -> None:
    """Two versions side by side, each on two pods: every statistic is of its own labels."""
    streams = [arrivals(1, 130, 8), arrivals(2, 130, 5, bias=0.7, version="b")]

    verify(tmp_path, streams, {"1h": [30, 60, 61, 130], "1d": [130]})


def test_day_equals_numpy(tmp_path: Path) -> None:
    """The 1 d window is the sum of its minutes, before, at and after it is full."""
    stream = arrivals(3, DAY + 90, 0.7, pods=1, scrapes_a_minute=1)

    verify(tmp_path, [stream], {"1d": [700, DAY, DAY + 1, DAY + 90], "1h": [DAY + 90]})


def test_parts_of_the_windows_equal_numpy(tmp_path: Path) -> None:
    """Sums of the last minute by age, and one promise whatever the number of pods."""
    stream = arrivals(4, 12, 40)

    check(tmp_path, "15s", list(stream.inputs()), list(stream.parts(12)))


def test_other_versions_labels_count_from_the_first(tmp_path: Path) -> None:
    """The series of a version that runs no more begin with its first label: it is counted.

    Not so at the first sight of an instance: nobody knows when what it brings along came.
    """
    appears, brought = np.full(121, np.nan), np.full(121, np.nan)
    appears[50:] = 300 + np.arange(71)
    brought[60:] = 1000
    up = np.ones(121)
    up_later = np.full(121, np.nan)
    up_later[60:] = 1
    labels = LABELS | {"version": "old", "age": "7d"}

    check(
        tmp_path,
        "15s",
        [
            series("model_feedback_total", labels | {"instance": "0"}, appears),
            series("up", {"job": "model", "instance": "0"}, up),
            series("model_feedback_total", labels | {"instance": "1"}, brought),
            series("up", {"job": "model", "instance": "1"}, up_later),
        ],
        [
            equals("model_age:feedback_rows:1m", labels, 301, 13),
            equals("model_age:feedback_rows:1h", labels, 369, 30),
        ],
    )


def test_restart_and_gap_make_no_labels_up(tmp_path: Path) -> None:
    """A counter that starts again counts on; ten minutes without a scrape add nothing."""
    restarted = np.concatenate([3 * np.arange(161.0), 3 * np.arange(1, 161)])
    gap = 10_000 + 4 * np.arange(321.0)
    gap[100:140] = np.nan
    up = np.ones(321)
    up[100:140] = 0
    labels = LABELS | {"age": "1h"}

    check(
        tmp_path,
        "15s",
        [
            series("model_feedback_total", labels | {"instance": "0"}, restarted),
            series("up", {"job": "model", "instance": "0"}, np.ones(321)),
            series("model_feedback_total", labels | {"instance": "1"}, gap),
            series("up", {"job": "model", "instance": "1"}, up),
        ],
        [equals("model_age:feedback_rows:1h", labels, 3 * 239 + 4 * (99 + 239 - 140), 60)],
    )


def test_without_labels_there_is_no_statistic(tmp_path: Path) -> None:
    """No label: 0 rows, and neither a NaN nor a number. One label: an error without interval."""
    none = silent("none")
    one = silent("one", errors=[0.25])
    names = ("mae", "rmse", "bias", "mae_ci95", "rmse_ci95", "bias_ci95", "mae_excess", "mae_gap")

    check(
        tmp_path,
        "15s",
        [*none.inputs(), *one.inputs()],
        [
            equals("model:feedback_rows:1h", none.labels, 0, 20),
            *(absent(f"model:{name}:1h", none.labels, 20) for name in names),
            absent("model:feedback_delay_seconds:1h", none.labels, 20),
            equals("model:feedback_coverage:1h", none.labels, 0, 20),
            *(equals(f"model:{name}:1h", one.labels, 0.25, 20) for name in ("mae", "bias")),
            *(absent(f"model:{name}:1h", one.labels, 20) for name in names[3:]),
            absent("model_age:mae:1h", one.labels | {"age": "older"}, 20),
        ],
    )


def silent(version: str, errors: list[float] | None = None) -> Feedback:
    """Return 20 minutes of predictions with a few labels in minute 10, of age 1h, or none."""
    error = np.array(errors or [], dtype=float)
    places = np.zeros(len(error), dtype=np.intp)
    return Feedback(
        places + 40, places, places, error, error, np.ones((81, 1, len(BIN_ERRORS))), version
    )


def test_equal_errors_have_no_spread_and_no_nan(tmp_path: Path) -> None:
    """Where rounding could make a variance negative, its root is 0 and not NaN."""
    stream = silent("a", errors=[0.1] * 250)
    perfect = silent("b", errors=[0.0] * 250)

    check(
        tmp_path,
        "15s",
        [*stream.inputs(), *perfect.inputs()],
        [
            *(equals(f"model:{n}_ci95:1h", stream.labels, 0, 20) for n in ("mae", "rmse", "bias")),
            equals("model:mae_ci95:1h", perfect.labels, 0, 20),
            absent("model:rmse_ci95:1h", perfect.labels, 20),
        ],
    )


def test_version_without_a_promise_has_no_excess(tmp_path: Path) -> None:
    """A version whose pods are gone still has its errors, held against nothing."""
    stream = silent("gone", errors=[2.0] * 300)
    counters = [entry for entry in stream.inputs() if entry["series"].startswith("model_feedback")]

    check(
        tmp_path,
        "15s",
        counters,
        [
            equals("model:mae:1h", stream.labels, 2, 20),
            *(
                absent(f"model:{name}:1h", stream.labels, 20)
                for name in ("mae_excess", "mae_gap", "expected_mae", "feedback_coverage")
            ),
        ],
    )


@pytest.mark.parametrize(
    ("labels", "error", "excess"),
    [
        pytest.param(199, 2.0, False, id="too few labels"),
        pytest.param(200, 2.0, True, id="enough"),
    ],
)
def test_excess_needs_labels(tmp_path: Path, labels: int, error: float, excess: bool) -> None:  # noqa: FBT001
    """With fewer than 200 labels it cannot be told, and so there is no number to judge."""
    stream = silent("a", errors=[error] * labels)
    value = (error - PROMISED["cv_mae"] - promised_ci95()) / PROMISED["cv_mae"]
    name = "model:mae_excess:1h"

    check(
        tmp_path,
        "15s",
        list(stream.inputs()),
        [
            equals(name, stream.labels, value, 20) if excess else absent(name, stream.labels, 20),
            *([] if excess else [absent("model:mae_gap:1h", stream.labels, 20)]),
        ],
    )


@pytest.mark.parametrize(
    ("span", "window", "step", "hours"), [("1d", "1h", 1 / 12, 24), ("7d", "1d", 1, 168)]
)
def test_presence_is_the_share_of_time_with_labels(
    tmp_path: Path, span: str, window: str, step: float, hours: int
) -> None:
    """Of two versions, whichever had labels; a time without a record counts as without."""
    steps = round(hours / step)
    one, other = np.zeros(steps + 2), np.zeros(steps + 2)
    one[: steps // 2] = 5
    other[steps // 4 : steps // 4 * 3] = 7
    interval = f"{round(step * 60)}m"
    inputs = [
        series(f"model:feedback_rows:{window}", LABELS | {"version": "a"}, one),
        series(f"model:feedback_rows:{window}", LABELS | {"version": "b"}, other),
        series(f"model_feature:rows:{window}", LABELS | {"feature": "prediction"}, one),
        series(f"model_feature:rows:{window}", LABELS | {"feature": "ph"}, one + 1),
    ]
    # In the middle there were labels all the time, at the end in three quarters of it; the very
    # first sample is in Prometheus 2's range and not in 3's.
    shares = [("feedback", 0.5, 0.5), ("feedback", 1, 0.75), ("prediction", 1, 0.5)]
    cases = [
        {
            "expr": f"abs(job_model:{what}_presence:{span} - {share}) < bool {1.5 / steps}",
            "eval_time": f"{round(at * hours * 60)}m",
            "exp_samples": [{"labels": '{job="model",model="loans"}', "value": 1}],
        }
        for what, at, share in shares
    ]
    document = {
        "rule_files": [str(RULES / "accuracy.yml")],
        "evaluation_interval": interval,
        "tests": [{"interval": interval, "input_series": inputs, "promql_expr_test": cases}],
    }
    file = tmp_path / "presence.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    run(file)


def test_every_series_that_is_recorded_is_compared() -> None:
    """What the tests above compare is what accuracy.yml records, no more and no less."""
    stream = arrivals(6, 20, 40)
    compared = [*stream.expected("1h", 20), *stream.expected("1d", 20), *stream.parts(20)]
    recorded = yaml.safe_load((RULES / "accuracy.yml").read_text())["groups"][0]["rules"]

    assert {rule["record"] for rule in recorded if "presence" not in rule["record"]} == {
        re.findall(r"abs\(([\w:]+)", case["expr"])[0] for case in compared
    }


def test_day_is_computed_as_the_hour() -> None:
    """The rules of the two windows differ in the window only."""
    text = (RULES / "accuracy.yml").read_text()
    marks = [text.index(mark) for mark in ("# The last hour.", "# The last day.", "# The share of")]
    parts = itertools.pairwise(marks)
    hour, day = (text[start:end].rstrip(" \n#") for start, end in parts)

    swaps = {"hour": "day", "1h": "1d", "59m30s": "23h59m30s", ": 60 samples": ": 1440 samples"}
    for one, other in swaps.items():
        hour = hour.replace(one, other)
    assert hour == day


def test_minutes_are_computed_alike() -> None:
    """The rules of the last minute differ in the family only."""
    rules = yaml.safe_load((RULES / "accuracy.yml").read_text())["groups"][0]["rules"]
    minutes = [rule["expr"] for rule in rules if rule["record"].endswith(":1m")]
    alike = {re.sub(r"model_feedback\w*|, sign", "", expr) for expr in minutes}

    assert len(minutes) == 6
    assert len(alike) == 1
