"""Every series that the rules record of a classification equals scikit-learn's, to 1e-6."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml
from scipy import stats
from sklearn import metrics

from bundle.arrays import Floats
from bundle.figures import calibration_error, figures
from serving.metrics.feedback import SCORE_EDGES
from tests.rules.test_accuracy_values import PROMISED as REGRESSION_PROMISED
from tests.rules.test_accuracy_values import arrivals
from tests.support.drift import design_effect
from tests.support.promtool import RULES, absent, check, equals, series, started

MINUTES = 64
WINDOWS = {"1h": 60, "1d": 24 * 60}
AGES = ("1h", "1d", "7d", "older")
LABELS = {"job": "model", "model": "loans"}
TRAINING_ROWS = 1200
STATISTICS = ("accuracy", "macro_f1", "balanced_accuracy", "log_loss", "brier", "auc")
PROMISED = dict(zip(STATISTICS, (0.8, 0.75, 0.76, 0.4, 0.2, 0.85), strict=True))
LOSSES = ("log_loss", "brier")


@dataclass(frozen=True)
class Labelled:
    """The labels of one version: one array entry each, at a minute, a pod and an age."""

    version: str
    headline: str
    minute: npt.NDArray[np.intp]
    pod: npt.NDArray[np.intp]
    age: npt.NDArray[np.intp]
    outputs: Floats
    truth: npt.NDArray[np.intp]
    # (minutes, pods, classes): predictions of each class, and the mean calibrated confidence.
    predictions: Floats
    confidence: float = 0.77

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.outputs.shape[1])

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels that all statistics have."""
        return LABELS | {"version": self.version}

    @property
    def predicted(self) -> npt.NDArray[np.intp]:
        """Return the codes of the predicted classes."""
        return np.asarray(self.outputs.argmax(axis=1), np.intp)

    @property
    def score(self) -> Floats:
        """Return the signal `score`."""
        return self.outputs[:, 1] if self.classes == 2 else self.outputs.max(axis=1)

    @property
    def losses(self) -> dict[str, Floats]:
        """Return the log loss and the Brier score of each label."""
        outcome = np.eye(self.classes)[self.truth]
        squares = ((self.outputs - outcome) ** 2).sum(axis=1)
        return {
            "log_loss": -np.log(self.outputs[np.arange(len(outcome)), self.truth]),
            "brier": squares / 2 if self.classes == 2 else squares,
        }

    def inputs(self) -> Iterator[dict[str, str]]:
        """Yield what every pod exports."""
        for pod in range(self.predictions.shape[1]):
            target = {"instance": f"{pod}:8001"}
            for name, more, amounts in self._counters():
                mine = (self.pod == pod) & (amounts != 0)
                for index, age in enumerate(AGES):
                    chosen = mine & (self.age == index)
                    yield self._series(name, target | more | {"age": age}, chosen, amounts)
            for name, more, amounts in self._counters_without_age():
                yield self._series(name, target | more, self.pod == pod, amounts)
            yield from self._of_predictions(pod, target)
            yield series(*started(target, MINUTES + 1))
            yield from self._facts(target)

    def _series(
        self, name: str, labels: dict[str, str], chosen: npt.NDArray[np.bool_], amounts: Floats
    ) -> dict[str, str]:
        counter = np.bincount(self.minute[chosen], amounts[chosen], MINUTES + 1).cumsum()
        return series(f"model_feedback{name}_total", self.labels | labels, counter)

    def _counters(self) -> Iterator[tuple[str, dict[str, str], Floats]]:
        ones = np.ones(len(self.truth))
        yield "", {}, ones
        yield "_delay_seconds_sum", {}, 60 * ones
        for code in range(self.classes):
            is_predicted, is_true = self.predicted == code, self.truth == code
            for outcome, found in (
                ("true_positive", is_predicted & is_true),
                ("false_positive", is_predicted & ~is_true),
                ("false_negative", ~is_predicted & is_true),
            ):
                yield "_class", {"class": f"c{code}", "outcome": outcome}, ones * found
        for loss, values in self.losses.items():
            yield f"_{loss}_sum", {}, values
            yield f"_{loss}_squared_sum", {}, values**2
        confidence, right = self.outputs.max(axis=1), self.predicted == self.truth
        for at in range(10):
            inside = np.minimum((confidence * 10).astype(int), 9) == at
            yield "_confidence_sum", {"bin": f"{at:02}"}, confidence * inside
            yield "_confidence_right", {"bin": f"{at:02}"}, ones * (right & inside)
        scored = 1 if self.classes == 2 else self.predicted
        for at in range(len(SCORE_EDGES) + 1):
            for is_true in (True, False):
                found = (self._bin == at) & ((self.truth == scored) == is_true)
                labels = {"bin": f"{at:02}", "outcome": str(is_true).lower()}
                yield "_score_bin", labels, ones * found

    @property
    def _bin(self) -> npt.NDArray[np.intp]:
        return np.searchsorted(SCORE_EDGES, self.score, side="right")

    def _counters_without_age(self) -> Iterator[tuple[str, dict[str, str], Floats]]:
        if self.classes == 2:
            for at in range(len(SCORE_EDGES) + 1):
                above = (self._bin > at) & (self.truth == 1)
                yield "_score_above", {"bin": f"{at:02}"}, above.astype(float)

    def _of_predictions(self, pod: int, target: dict[str, str]) -> Iterator[dict[str, str]]:
        labels = self.labels | target
        rows = self.predictions[:, pod]
        for code in range(self.classes):
            bin_ = labels | {"feature": "prediction", "bin": f"{code:02}"}
            yield series("model_feature_bin_total", bin_, rows[:, code].cumsum())
            ratio = np.full(MINUTES + 1, 1 / self.classes)
            yield series("model_feature_reference_ratio", bin_, ratio)
        signal = labels | {"feature": "prediction"}
        reference = np.full(MINUTES + 1, float(TRAINING_ROWS))
        yield series("model_feature_reference_rows", signal, reference)
        confidence = rows.sum(axis=1).cumsum() * self.confidence
        yield series("model_prediction_confidence_sum_total", labels, confidence)

    def _facts(self, target: dict[str, str]) -> Iterator[dict[str, str]]:
        labels, always = self.labels | target, np.ones(MINUTES + 1)
        yield series("model_headline", labels | {"statistic": self.headline}, always)
        for name, value in PROMISED.items():
            for statistic, promised in ((f"cv_{name}", value), (name, value / 2)):
                fact = labels | {"statistic": statistic}
                yield series("model_validation_error", fact, promised * always)

    def chosen(self, window: str, end: int) -> npt.NDArray[np.bool_]:
        """Return which labels arrived in the window: the rules look back by 15 s."""
        return (self.minute >= max(0, end - WINDOWS[window])) & (self.minute < end)

    def effect(self, window: str, end: int) -> float:
        """Return the design effect of the predictions."""
        minutes = self.predictions[max(0, end - WINDOWS[window]) : end].sum(axis=1)
        return design_effect(minutes, np.full(self.classes, TRAINING_ROWS / self.classes))

    def effect_of_labels(self, window: str, end: int) -> float:
        """Return that of the labels: each depends on those rows only that have one."""
        made = self.predictions[max(0, end - WINDOWS[window]) : end].sum()
        share = min(self.chosen(window, end).sum() / made, 1)
        return float(1 + (self.effect(window, end) - 1) * share)

    def expected(self, window: str, end: int) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record of the window that ends at a minute."""
        labels = self.labels | {"window": window}
        where = self.chosen(window, end)
        values = self.statistics(where)
        for name, value in values.items():
            yield equals(f"model:{name}", labels, value, end)
        rows = where.sum() / self.effect_of_labels(window, end)
        for bound, value in zip(("lower", "upper"), wilson(values["accuracy"], rows), strict=True):
            yield equals("model:accuracy_ci", labels | {"bound": bound}, value, end)
        yield equals("model:scored_rows", labels, where.sum(), end)
        yield equals("model:expected_accuracy", labels, self.confidence, end)
        yield from self._by_class(labels, where, end)
        yield from self._judgement(labels, where, values, rows, end)
        for outcome in (True, False):
            scored = 1 if self.classes == 2 else self.predicted[where]
            inside = (self._bin[where] == 20) & ((self.truth[where] == scored) == outcome)
            bin_ = labels | {"bin": "20", "outcome": str(outcome).lower()}
            yield equals("model_bin:scored_rows", bin_, inside.sum(), end)

    def statistics(self, where: npt.NDArray[np.bool_]) -> dict[str, float]:
        """Return scikit-learn's figures of some labels."""
        truth, predicted, outputs = self.truth[where], self.predicted[where], self.outputs[where]
        score = outputs[:, 1] if self.classes == 2 else outputs
        found = {
            "accuracy": metrics.accuracy_score(truth, predicted),
            "macro_f1": metrics.f1_score(truth, predicted, average="macro"),
            "balanced_accuracy": metrics.balanced_accuracy_score(truth, predicted),
            "log_loss": metrics.log_loss(truth, outputs),
            "brier": metrics.brier_score_loss(truth, score),
            "calibration_error": calibration_error(outputs.max(axis=1), truth == predicted),
        }
        if self.classes == 2:
            # scikit-learn counts half of the pairs of equal scores, too.
            found["auc"] = metrics.roc_auc_score(truth, self._bin[where])
            found["auc_binning_error"] = self.binning_error(where)
            exact = metrics.roc_auc_score(truth, self.score[where])
            assert abs(found["auc"] - exact) <= found["auc_binning_error"] < 0.02
        return {name: float(value) for name, value in found.items()}

    def binning_error(self, where: npt.NDArray[np.bool_]) -> float:
        """Return half of the share of pairs of a positive and a negative label in one bin."""
        positive, negative = (
            np.bincount(self._bin[where & (self.truth == each)], minlength=40) for each in (1, 0)
        )
        return float(positive @ negative / 2 / positive.sum() / negative.sum())

    def _by_class(
        self, labels: dict[str, str], where: npt.NDArray[np.bool_], end: int
    ) -> Iterator[dict[str, Any]]:
        truth, predicted = self.truth[where], self.predicted[where]
        found = metrics.precision_recall_fscore_support(truth, predicted)
        for code in range(self.classes):
            of_class = labels | {"class": f"c{code}"}
            for name, values in zip(("precision", "recall", "f1"), found, strict=False):
                yield equals(f"model_class:{name}", of_class, values[code], end)
            right = ((truth == code) & (predicted == code)).sum()
            outcome = of_class | {"outcome": "true_positive"}
            yield equals("model_class:outcomes", outcome, right, end)

    def _judgement(
        self,
        labels: dict[str, str],
        where: npt.NDArray[np.bool_],
        values: dict[str, float],
        rows: float,
        end: int,
    ) -> Iterator[dict[str, Any]]:
        name = self.headline
        of_headline = labels | {"statistic": name}
        spread = self.spread(where, values)
        yield equals("model:headline", of_headline, values[name], end)
        yield equals("model:headline_spread", of_headline, spread, end)
        is_loss = name in LOSSES
        loss = values[name] if is_loss else 1 - values[name]
        promised = PROMISED[name] if is_loss else 1 - PROMISED[name]
        expected = 1 - self.confidence if name == "accuracy" else promised
        least = loss - 3.29 * spread * np.sqrt(where.sum() * (1 / rows + 1 / TRAINING_ROWS))
        yield equals("model:headline_loss", of_headline, loss, end)
        yield equals("model:expected_loss", of_headline, expected, end)
        if rows >= 200:
            yield equals("model:least_loss", of_headline, least, end)
            yield equals("model:loss_excess", of_headline, least / promised - 1, end)
            yield equals("model:loss_gap", of_headline, least / expected - 1, end)
        else:
            yield absent("model:loss_excess", of_headline, end)
        fact = {**self.labels, "statistic": name}
        yield equals("model:headline_statistic", fact, 1, end)
        yield equals("model:promised_headline", fact, PROMISED[name], end)
        yield equals("model:promised_loss", fact, promised, end)

    def spread(self, where: npt.NDArray[np.bool_], values: dict[str, float]) -> float:
        """Return the standard error of the headline."""
        rows, truth, predicted = where.sum(), self.truth[where], self.predicted[where]
        if self.headline == "accuracy":
            return float((truth == predicted).std() / np.sqrt(rows))
        if self.headline in LOSSES:
            return float(self.losses[self.headline][where].std() / np.sqrt(rows))
        confusion = metrics.confusion_matrix(truth, predicted)
        right, true, answered = confusion.diagonal(), confusion.sum(1), confusion.sum(0)
        if self.headline == "balanced_accuracy":
            recall = right / true
            return float(np.sqrt((recall * (1 - recall) / true).sum()) / self.classes)
        if self.headline == "macro_f1":
            wrong = true + answered - 2 * right
            own = 2 * np.sqrt(right * wrong * (right + wrong)) / (2 * right + wrong) ** 2
            return float(own.mean())
        area, (negative, positive) = values["auc"], true
        q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
        variance = (
            area * (1 - area) + (positive - 1) * (q1 - area**2) + (negative - 1) * (q2 - area**2)
        ) / (positive * negative)
        return float(np.sqrt(variance) + values["auc_binning_error"] / 3.29)


def wilson(share: float, rows: float) -> tuple[float, float]:
    """Return Wilson's interval of a share, for rows that need not be a whole number."""
    z = float(stats.norm.ppf(0.975))
    centre, scale = share + z**2 / (2 * rows), 1 + z**2 / rows
    half = z * np.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return float((centre - half) / scale), float((centre + half) / scale)


def labelled(seed: int, headline: str, classes: int, a_minute: int = 12) -> Labelled:
    """Return labels that follow their probabilities, and steady predictions, on two pods."""
    rng = np.random.default_rng(seed)
    size = MINUTES * a_minute
    outputs = rng.dirichlet(np.full(classes, 0.6), size).clip(1e-9)
    outputs /= outputs.sum(axis=1, keepdims=True)
    weights = np.full(classes, 30.0)
    return Labelled(
        version=f"{headline}{classes}",
        headline=headline,
        minute=rng.integers(1, MINUTES + 1, size),
        pod=rng.integers(0, 2, size),
        age=rng.integers(0, len(AGES), size),
        outputs=outputs,
        truth=np.array([rng.choice(classes, p=each) for each in outputs]),
        predictions=rng.poisson(weights, (MINUTES + 1, 2, classes)).astype(float),
    )


def verify(folder: Path, streams: list[Labelled], windows: dict[str, int]) -> None:
    """Compare all that is recorded of some versions at the end of each window."""
    check(
        folder,
        "1m",
        [entry for stream in streams for entry in stream.inputs()],
        [
            entry
            for stream in streams
            for window, end in windows.items()
            for entry in stream.expected(window, end)
        ],
    )


def test_wilson_is_scipys() -> None:
    """For a whole number of rows."""
    interval = stats.binomtest(83, 100).proportion_ci(method="wilson")

    assert wilson(0.83, 100) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize("headline", STATISTICS)
def test_two_classes_are_scikit_learns(tmp_path: Path, headline: str) -> None:
    """Whichever statistic the bundle chose."""
    stream = labelled(len(headline), headline, 2)

    verify(tmp_path, [stream], {"1h": MINUTES, "1d": MINUTES})


@pytest.mark.parametrize(
    ("headline", "classes", "a_minute"), [("accuracy", 3, 12), ("brier", 4, 3)]
)
def test_more_classes_are_scikit_learns(
    tmp_path: Path, headline: str, classes: int, a_minute: int
) -> None:
    """They have no area under a curve, and with few labels no judgement."""
    stream = labelled(9, headline, classes, a_minute)
    verify(tmp_path, [stream], {"1h": MINUTES})

    check(
        tmp_path,
        "1m",
        [*stream.inputs()],
        [absent("model:auc", stream.labels | {"window": "1h"}, MINUTES)],
    )


def test_a_class_without_labels_counts_as_in_scikit_learn_and_in_the_promise(
    tmp_path: Path,
) -> None:
    """One that is predicted but never true, and one that is neither, to 1e-9."""
    stream = labelled(13, "macro_f1", 5)
    outputs = stream.outputs.copy()
    outputs[:, 4] = 1e-9
    outputs /= outputs.sum(axis=1, keepdims=True)
    truth = np.where(stream.truth >= 3, stream.truth - 3, stream.truth)
    absent_classes = replace(stream, outputs=outputs, truth=truth)
    where = absent_classes.chosen("1h", MINUTES)
    actual, predicted = truth[where], absent_classes.predicted[where]
    assert ({*actual.tolist()}, {*predicted.tolist()}) == ({0, 1, 2}, {0, 1, 2, 3})
    promise = figures(outputs[where], actual.astype(float), 5)
    expected = {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "macro_f1": metrics.f1_score(actual, predicted, average="macro"),
        "balanced_accuracy": metrics.recall_score(
            actual, predicted, average="macro", labels=[0, 1, 2]
        ),
    }
    labels = absent_classes.labels | {"window": "1h"}

    for name, value in expected.items():
        assert promise[name] == pytest.approx(value, abs=1e-9)
    check(
        tmp_path,
        "1m",
        [*absent_classes.inputs()],
        [
            *(
                equals(f"model:{name}", labels, value, MINUTES, within=1e-9)
                for name, value in expected.items()
            ),
            absent("model_class:f1", labels | {"class": "c4"}, MINUTES),
            absent("model_class:recall", labels | {"class": "c3"}, MINUTES),
        ],
    )


def test_a_classification_records_nothing_of_a_regression(tmp_path: Path) -> None:
    """Nor does it need it: the number of labels is common to both."""
    stream = labelled(11, "accuracy", 2, a_minute=5)
    foreign = '{__name__=~"model(_age|_class|)?:.*(mae|rmse|bias).*"}'

    check(
        tmp_path,
        "1m",
        [*stream.inputs()],
        [{"expr": f"count({foreign})", "eval_time": f"{MINUTES}m", "exp_samples": []}],
    )


def test_a_regression_records_nothing_of_a_classification(tmp_path: Path) -> None:
    """Its headline is none of these statistics."""
    labels = LABELS | {"version": "r", "instance": "0"}
    always, growing = np.ones(MINUTES + 1), np.arange(MINUTES + 1.0)
    inputs = [
        series("model_headline", labels | {"statistic": "mae"}, always),
        series("model_validation_error", labels | {"statistic": "cv_mae"}, always),
        series("model_feedback_total", labels | {"age": "1h"}, growing),
        series(*started({"instance": "0"}, MINUTES + 1)),
    ]
    names = sorted(recorded())

    check(
        tmp_path,
        "1m",
        inputs,
        [
            {"expr": f"count({name})", "eval_time": f"{MINUTES}m", "exp_samples": []}
            for name in names
        ],
    )


def test_a_regression_may_be_judged_by_its_rmse(tmp_path: Path) -> None:
    """Its standard error is that of a root of a mean of squares."""
    stream = arrivals(7, 62, 25)
    headline = stream.labels | {"instance": "0:8001", "statistic": "rmse"}
    always = np.ones(len(stream.predicted))
    where = stream.window("1h", 62)
    squares = stream.error[where] ** 2
    rmse = np.sqrt(squares.mean())
    labels = stream.labels | {"window": "1h", "statistic": "rmse"}

    check(
        tmp_path,
        "15s",
        [*stream.inputs(), series("model_headline", headline, always)],
        [
            equals("model:headline", labels, rmse, 62),
            equals("model:headline_loss", labels, rmse, 62),
            equals(
                "model:headline_spread",
                labels,
                squares.std() / (2 * rmse * np.sqrt(len(squares))),
                62,
            ),
            equals("model:expected_loss", labels, REGRESSION_PROMISED["cv_rmse"], 62),
            absent("model:accuracy", stream.labels | {"window": "1h"}, 62),
        ],
    )


def recorded() -> set[str]:
    """Return the names of the series that the rules of a classification record."""
    groups = yaml.safe_load((RULES / "classification.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def test_every_series_that_is_recorded_is_compared() -> None:
    """No more and no less than the rules record."""
    streams = [labelled(12, name, 2) for name in STATISTICS]
    compared = {
        re.sub(r"^abs\(([\w:]+).*", r"\1", case["expr"])
        for stream in streams
        for case in stream.expected("1h", MINUTES)
    }

    assert compared == recorded()
