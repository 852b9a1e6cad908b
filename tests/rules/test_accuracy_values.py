"""Every series that the accuracy rules record equals NumPy on the same labels, to 1e-6."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from scipy import stats

from bundle.arrays import Floats
from tests.support.accuracy import accuracy, student_quantile
from tests.support.drift import design_effect
from tests.support.promtool import RULES, absent, check, equals, run, series, started

HOUR, DAY = 60, 24 * 60
WINDOWS = {"1h": HOUR, "1d": DAY}
AGES = ("1h", "1d", "7d", "older")
HOUR_WINDOW = {"window": "1h"}
LABELS = {"job": "model", "model": "loans", "version": "a"}
# What validation found: errors of 1,282 rows, and the mean |error| of each bin of the prediction.
PROMISED = {"cv_mae": 0.508, "cv_rmse": 0.657, "mae": 0.49, "rmse": 0.63}
TRAINING_ROWS = 1282
# Training rows by bin of the prediction.
TRAINED = np.array([200, 300, 282, 300, 200.0])
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
                bin_ |= {"feature": "prediction"}
                rows = self.predicted[:, pod, index].cumsum()
                yield series("model_feature_bin_total", bin_, rows)
                ratio = self._always((TRAINED[index] + 0.5) / (TRAINED.sum() + 2.5))
                yield series("model_feature_reference_ratio", bin_, ratio)
            rows_fact = self.labels | target | {"feature": "prediction"}
            yield series("model_feature_reference_rows", rows_fact, self._always(TRAINING_ROWS))
            yield from self._labels_by_bin(pod, target)
            yield series(*started(target, len(self.predicted)))

    def _labels_by_bin(self, pod: int, target: dict[str, str]) -> Iterator[dict[str, str]]:
        for index in range(len(BIN_ERRORS)):
            mine = (self.pod == pod) & (self.bin == index)
            labels = self.labels | target | {"bin": f"{index:02}"}
            for name, amounts in (
                ("", np.ones_like(self.error)),
                ("_absolute_error_sum", np.abs(self.error)),
            ):
                counter = np.bincount(self.scrape[mine], amounts[mine], len(self.predicted))
                yield series(f"model_feedback_bin{name}_total", labels, counter.cumsum())

    @property
    def bin(self) -> npt.NDArray[np.intp]:
        """Return the bin of each label's prediction: of larger errors, a higher one."""
        return np.asarray(np.minimum(np.abs(self.error) * 4, 4), np.intp)

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
        return max(0, end - WINDOWS[window] * self.scrapes_a_minute), end

    def window(self, window: str, minute: int) -> npt.NDArray[np.bool_]:
        """Return which labels arrived in the window that ends at `minute`."""
        start, end = self._bounds(window, minute)
        return (self.scrape >= start) & (self.scrape < end)

    def expected(self, window: str, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record of the window that ends at `minute`."""
        chosen, labels = self.window(window, minute), self.labels | {"window": window}
        for name, value in self._whole(window, minute, chosen).items():
            metric, _, bound = name.partition(" ")
            more = {"bound": bound} if bound else {}
            yield equals(f"model:{metric}", labels | more, value, minute)
        for index, age in enumerate(AGES):
            errors = self.error[chosen & (self.age == index)]
            values = {"feedback_rows": len(errors), "mae": np.abs(errors).mean()}
            values["bias"] = errors.mean()
            for name, value in values.items():
                yield equals(f"model_age:{name}", labels | {"age": age}, value, minute)
        for index, ratio in enumerate(self._label_ratios(chosen)):
            yield equals("model_bin:label_ratio", labels | {"bin": f"{index:02}"}, ratio, minute)

    def _label_ratios(self, chosen: npt.NDArray[np.bool_]) -> Floats:
        labelled = np.bincount(self.bin[chosen], minlength=len(BIN_ERRORS)) + 0.5
        return np.asarray(labelled / labelled.sum())

    def predictions(self, window: str, minute: int) -> Floats:
        """Return predictions (minutes, bins) of the window that ends at `minute`."""
        start, end = self._bounds(window, minute)
        rows = self.predicted[start:end].sum(axis=1)
        return np.asarray(rows.reshape(-1, self.scrapes_a_minute, rows.shape[1]).sum(axis=1))

    def _whole(self, window: str, minute: int, chosen: npt.NDArray[np.bool_]) -> dict[str, float]:
        minutes = self.predictions(window, minute)
        rows, effect = minutes.sum(axis=0), design_effect(minutes, TRAINED)
        coverage = chosen.sum() / rows.sum()
        of_labels = 1 + (effect - 1) * min(coverage, 1)
        labels = chosen.sum() / of_labels
        judged = accuracy(self.error[chosen], of_labels)
        expected_mae = float(np.average(BIN_ERRORS, weights=rows))
        values = judged | {
            "feedback_rows": float(chosen.sum()),
            "effective_feedback_rows": float(labels),
            "student_quantile": student_quantile(labels),
            "feedback_delay_seconds": float(self.delay[chosen].mean()),
            "feedback_coverage": float(coverage),
            "expected_mae": expected_mae,
            **self._selection(rows, 1 / labels + effect / rows.sum(), chosen),
        }
        spread = np.abs(self.error[chosen]).std() / np.sqrt(labels - 1)
        near_end = judged["mae"] - 3.29 * np.hypot(spread, promised_standard_error())
        if labels >= 200:
            values["mae_excess"] = float(near_end / PROMISED["cv_mae"] - 1)
            values["mae_gap"] = float(near_end / expected_mae - 1)
        return values | {"mae_standard_error": float(spread)}

    def _selection(
        self, rows: Floats, variance: float, chosen: npt.NDArray[np.bool_]
    ) -> dict[str, float]:
        error = np.abs(self.error[chosen])
        count, total = (
            np.bincount(self.bin[chosen], weights, len(BIN_ERRORS)) for weights in (None, error)
        )
        seen = count > 0
        p, q = self._label_ratios(chosen), (rows + 0.5) / (rows + 0.5).sum()
        return {
            "stratified_mae": float(np.average(total[seen] / count[seen], weights=rows[seen])),
            "label_psi": float(stats.entropy(p, q) + stats.entropy(q, p)),
            "label_psi_noise": float((len(q) - 1) * variance),
        }

    def promises(self, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what was promised."""
        yield equals("model:promised_mae", self.labels, PROMISED["cv_mae"], minute)
        yield equals("model:promised_rmse", self.labels, PROMISED["cv_rmse"], minute)
        value = promised_standard_error()
        yield equals("model:promised_mae_standard_error", self.labels, value, minute)


def promised_standard_error() -> float:
    """Return the standard error of the promise itself."""
    variance = PROMISED["cv_rmse"] ** 2 - PROMISED["cv_mae"] ** 2
    return float(np.sqrt(variance / TRAINING_ROWS))


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


def test_promise_equals_numpy(tmp_path: Path) -> None:
    """One promise whatever the number of pods."""
    stream = arrivals(4, 12, 40)

    check(tmp_path, "15s", list(stream.inputs()), list(stream.promises(12)))


def test_without_labels_there_is_no_statistic(tmp_path: Path) -> None:
    """No label: 0 rows, and neither a NaN nor a number. One label: an error without interval."""
    none = silent("none")
    one = silent("one", errors=[0.25])
    names = ("mae", "rmse", "bias", "mae_ci", "rmse_ci", "bias_ci", "mae_excess", "mae_gap")
    absent_of_none = (*names, "feedback_delay_seconds", "stratified_mae", "label_psi")
    labels, label = none.labels | HOUR_WINDOW, one.labels | HOUR_WINDOW

    check(
        tmp_path,
        "15s",
        [*none.inputs(), *one.inputs()],
        [
            equals("model:feedback_rows", labels, 0, 20),
            *(absent(f"model:{name}", labels, 20) for name in absent_of_none),
            equals("model:feedback_coverage", labels, 0, 20),
            *(equals(f"model:{name}", label, 0.25, 20) for name in ("mae", "bias")),
            *(absent(f"model:{name}", label, 20) for name in names[3:]),
            absent("model_age:mae", label | {"age": "older"}, 20),
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
    stream = silent("a", errors=[0.1] * 1000)
    perfect = silent("b", errors=[0.0] * 1000)

    check(
        tmp_path,
        "15s",
        [*stream.inputs(), *perfect.inputs()],
        [
            *(
                equals(f"model:{name}_ci", stream.labels | HOUR_WINDOW | {"bound": bound}, 0.1, 20)
                for name in ("mae", "rmse", "bias")
                for bound in ("lower", "upper")
            ),
            equals("model:mae_ci", perfect.labels | HOUR_WINDOW | {"bound": "lower"}, 0, 20),
            absent("model:mae_ci", perfect.labels | HOUR_WINDOW | {"bound": "upper"}, 20),
            absent("model:rmse_ci", perfect.labels | HOUR_WINDOW, 20),
        ],
    )


def test_version_without_a_promise_has_no_excess(tmp_path: Path) -> None:
    """A version whose pods are gone still has its errors, held against nothing."""
    stream = silent("gone", errors=[2.0] * 300)
    counters = [
        entry
        for entry in stream.inputs()
        if entry["series"].startswith(("model_feedback", "model_start"))
    ]
    labels = stream.labels | HOUR_WINDOW
    names = ("mae_excess", "mae_gap", "expected_mae", "feedback_coverage", "stratified_mae")

    check(
        tmp_path,
        "15s",
        counters,
        [
            equals("model:mae", labels, 2, 20),
            *(absent(f"model:{name}", labels, 20) for name in names),
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
    """With fewer than 200 labels there is no number to judge."""
    stream = silent("a", errors=[error] * labels)
    value = (error - PROMISED["cv_mae"] - 3.29 * promised_standard_error()) / PROMISED["cv_mae"]
    name, there = "model:mae_excess", stream.labels | HOUR_WINDOW

    check(
        tmp_path,
        "15s",
        list(stream.inputs()),
        [
            equals(name, there, value, 20) if excess else absent(name, there, 20),
            *([] if excess else [absent("model:mae_gap", there, 20)]),
        ],
    )


@pytest.mark.parametrize(("window", "step", "hours"), [("1h", 1 / 12, 24), ("1d", 1, 168)])
def test_presence_is_the_share_of_time_with_labels(
    tmp_path: Path, window: str, step: float, hours: int
) -> None:
    """Of two versions, whichever had labels; a time without a record counts as without."""
    steps = round(hours / step)
    one, other = np.zeros(steps + 2), np.zeros(steps + 2)
    one[: steps // 2] = 5
    other[steps // 4 : steps // 4 * 3] = 7
    interval = f"{round(step * 60)}m"
    labels = LABELS | {"window": window}
    inputs = [
        series("model:feedback_rows", labels | {"version": "a"}, one),
        series("model:feedback_rows", labels | {"version": "b"}, other),
        series("model_feature:rows", labels | {"feature": "prediction"}, one),
        series("model_feature:rows", labels | {"feature": "ph"}, one + 1),
    ]
    # In the middle there were labels all the time, at the end in three quarters of it; the very
    # first sample is in Prometheus 2's range and not in 3's.
    shares = [("feedback", 0.5, 0.5), ("feedback", 1, 0.75), ("prediction", 1, 0.5)]
    where = f'{{window="{window}"}}'
    cases = [
        {
            "expr": f"abs(job_model:{what}_presence{where} - {share}) < bool {1.5 / steps}",
            "eval_time": f"{round(at * hours * 60)}m",
            "exp_samples": [
                {"labels": f'{{job="model",model="loans",window="{window}"}}', "value": 1}
            ],
        }
        for what, at, share in shares
    ]
    document = {
        "rule_files": [str(RULES / "statistics.yml")],
        "evaluation_interval": interval,
        "tests": [{"interval": interval, "input_series": inputs, "promql_expr_test": cases}],
    }
    file = tmp_path / "presence.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    run(file)


def test_every_series_that_is_recorded_is_compared() -> None:
    """What the tests above compare is what the rules record of labels, no more and no less."""
    stream = arrivals(6, 20, 80)
    compared = [*stream.expected("1h", 20), *stream.promises(20)]
    # A step on the way to the interval of the RMSE.
    names = {"model:rmse_relative_error", *(case["expr"] for case in compared)}
    groups = yaml.safe_load((RULES / "statistics.yml").read_text())["groups"]
    recorded = [rule for group in groups for rule in group["rules"]]
    of_labels = re.compile(r"(model|model_age|model_bin):(?!increase)")

    assert {rule["record"] for rule in recorded if of_labels.match(rule["record"])} == {
        re.sub(r"^abs\(([\w:]+).*", r"\1", name) for name in names
    }
