"""The metric families of the realized error: sums by version and by the age of the prediction.

From these sums, recording rules compute for a regression MAE (mean absolute error), RMSE (root mean
squared error), bias and their confidence intervals; for a classification what is derived from the
confusion of classes, log loss, Brier score, calibration error and ROC AUC.
"""

from abc import ABC, abstractmethod
from bisect import bisect_right
from math import log
from pathlib import Path

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Manifest, Reference
from serving.classified import EPSILON, Classified
from serving.metrics.segments import SegmentMetrics
from serving.metrics.slots import Labels, Layout, Slots
from serving.values import to_text

REJECTIONS = ("unknown", "expired", "duplicate", "malformed")
_HOUR = 3_600.0
_DAY = 24 * _HOUR
# Age classes with their upper limits, in seconds between prediction and label.
AGES = {"1h": _HOUR, "1d": _DAY, "7d": 7 * _DAY, "older": float("inf")}

_ROWS = ("model_feedback", "Labels accepted.")
_DELAY = ("model_feedback_delay_seconds_sum", "Sum of the time between prediction and label.")
_HELP = {
    "": _ROWS[1],
    "_absolute_error_sum": "Sum of |prediction - actual|, in units of the target.",
    "_squared_error_sum": "Sum of (prediction - actual)².",
    "_quartic_error_sum": "Sum of (prediction - actual)⁴, for the RMSE's confidence interval.",
    "_delay_seconds_sum": _DELAY[1],
}
# Errors are clipped to this multiple of the predictions' standard deviation. Otherwise one absurd
# label could overflow the sum of fourth powers, or make it too large for later labels to change it.
MAX_ERROR_SIGMAS = 1_000.0
_SIGNED = "Sum of |prediction - actual| by sign; positive minus negative, per label, is the bias."
_BINS = "Labels by the reference bin of the prediction; of the running version only."
_BIN_ERRORS = "Sum of |prediction - actual| by the reference bin of the prediction."


# The confusion matrix of more classes has too many series.
MAX_CONFUSION_CLASSES = 20
# Bins of the score, fine where scores of good classifiers are: below and above, by powers of ten.
_TAIL = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02)
SCORE_EDGES = (
    *_TAIL,
    *(at / 100 for at in range(5, 100, 5)),
    *(1 - each for each in reversed(_TAIL)),
)
# As in the promised calibration error (bundle/figures.py).
_CONFIDENCE_BINS = 10
# Sums over labels, and of their squares for confidence intervals.
_LOSSES = {
    "log_loss": "-ln of the probability of the true class",
    "brier": "(probability - outcome)², over the classes, halved for two",
}
# Of a class, in the terms of a test for it.
_CLASS_OUTCOMES = ("true_positive", "false_positive", "false_negative")
_BINARY = 2


class _Feedback(ABC):
    """The metric families of one model in one worker. Not thread-safe."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._model, self._version = manifest.name, manifest.version
        prediction = _of_prediction(manifest)
        self._edges, self._bins = prediction.edges, [each.bin for each in prediction.bins]
        self._directory = directory
        layout = Layout("counter")
        labels = {"model": manifest.name, "version": manifest.version}
        self._rejected = {
            reason: layout.counter(
                "model_feedback_rejected", "Labels rejected.", {**labels, "reason": reason}
            )
            for reason in REJECTIONS
        }
        # The underscore distinguishes this file from that of a version called "rejected".
        self._rejections = layout.create(directory, "feedback_rejected")
        self._versions: dict[str, Slots] = {}
        self._segments = SegmentMetrics(manifest, directory)

    def reject(self, reason: str) -> None:
        """Count one rejected label."""
        self._rejections.increment(self._rejected[reason], 1)

    def _of(self, version: str) -> Slots:
        """Return a version's slots; those of another version are created when needed."""
        if version not in self._versions:
            layout = Layout("counter")
            self._declare(layout, version)
            self._versions[version] = layout.create(self._directory, f"feedback-{version}")
        return self._versions[version]

    @abstractmethod
    def _declare(self, layout: Layout, version: str) -> None:
        """Declare the series of a version."""


class FeedbackMetrics(_Feedback):
    """The families of a regression."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        super().__init__(manifest, directory)
        self._max_error = MAX_ERROR_SIGMAS * _of_prediction(manifest).sigma
        self._of(manifest.version)

    def record(
        self, version: str, prediction: float, actual: float, delay: float, mark: bytes = b""
    ) -> None:
        """Count one label that arrived `delay` seconds after its prediction."""
        error = min(max(prediction - actual, -self._max_error), self._max_error)
        age = _age(delay)
        amounts = np.array(
            [1.0, abs(error), error**2, error**4, delay, max(error, 0.0), max(-error, 0.0)]
        )
        slots = self._of(version)
        slots.add(slice(age * len(amounts), (age + 1) * len(amounts)), amounts)
        if version == self._version:
            # The bins of another version are unknown here.
            first = len(AGES) * len(amounts) + 2 * bisect_right(self._edges, prediction)
            slots.add(slice(first, first + 2), amounts[:2])
            self._segments.record(mark, abs(error))

    def _declare(self, layout: Layout, version: str) -> None:
        for age in AGES:
            labels = {"model": self._model, "version": version, "age": age}
            for name, help_text in _HELP.items():
                layout.counter(f"model_feedback{name}", help_text, labels)
            for sign in ("pos", "neg"):
                layout.counter("model_feedback_error_sum", _SIGNED, {**labels, "sign": sign})
        if version == self._version:
            for bin_ in self._bins:
                labels = {"model": self._model, "version": version, "bin": bin_}
                layout.counter("model_feedback_bin", _BINS, labels)
                layout.counter("model_feedback_bin_absolute_error_sum", _BIN_ERRORS, labels)


class ClassFeedbackMetrics(_Feedback):
    """The families of a classification."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        super().__init__(manifest, directory)
        self._classes = [to_text(each) for each in manifest.classes]
        self._has_probabilities = manifest.probabilities
        self._slot: dict[tuple[object, ...], int] = {}
        self._of(manifest.version)

    def record(
        self, version: str, prediction: Classified, actual: int, delay: float, mark: bytes = b""
    ) -> None:
        """Count one label: the code of the true class, `delay` seconds after its prediction."""
        slots, age, code = self._of(version), _age(delay), prediction.code
        slots.increment(self._slot[age, "rows"], 1)
        slots.increment(self._slot[age, "delay"], delay)
        if code == actual:
            slots.increment(self._slot[age, "true_positive", actual], 1)
        else:
            slots.increment(self._slot[age, "false_positive", code], 1)
            slots.increment(self._slot[age, "false_negative", actual], 1)
        if len(self._classes) <= MAX_CONFUSION_CLASSES:
            slots.increment(self._slot[age, code, actual], 1)
        if prediction.probabilities is not None and self._has_probabilities:
            self._record_score(slots, age, prediction.probabilities, code, actual)
        if version == self._version:
            slots.increment(self._slot["bin", bisect_right(self._edges, code)], 1)
            self._segments.record(mark, float(code != actual))

    def _record_score(
        self, slots: Slots, age: int, probabilities: Floats, code: int, actual: int
    ) -> None:
        for loss, value in (
            ("log_loss", -log(max(float(probabilities[actual]), EPSILON))),
            ("brier", _brier(probabilities, actual)),
        ):
            slots.increment(self._slot[age, loss, 1], value)
            slots.increment(self._slot[age, loss, 2], value**2)
        scored = 1 if len(self._classes) == _BINARY else code
        score, outcome = float(probabilities[scored]), actual == scored
        bin_ = bisect_right(SCORE_EDGES, score)
        slots.increment(self._slot[age, "score", bin_, outcome], 1)
        confidence = float(probabilities[code])
        bin_of_ten = min(int(confidence * _CONFIDENCE_BINS), _CONFIDENCE_BINS - 1)
        slots.increment(self._slot[age, "confidence", bin_of_ten], confidence)
        slots.increment(self._slot[age, "right", bin_of_ten], actual == code)
        if outcome and bin_ and len(self._classes) == _BINARY:
            first = self._slot["above", 0]
            slots.add(slice(first, first + bin_), 1)

    def _declare(self, layout: Layout, version: str) -> None:
        # The slots of every version are the same, but for those that only the running one has.
        for index, age in enumerate(AGES):
            labels = {"model": self._model, "version": version, "age": age}
            self._slot[index, "rows"] = layout.counter(*_ROWS, labels)
            self._slot[index, "delay"] = layout.counter(*_DELAY, labels)
            self._declare_classes(layout, index, labels)
            if self._has_probabilities:
                self._declare_scores(layout, index, labels)
        if self._has_probabilities and len(self._classes) == _BINARY:
            self._declare_above(layout, {"model": self._model, "version": version})
        if version == self._version:
            for at, bin_ in enumerate(self._bins):
                labels = {"model": self._model, "version": version, "bin": bin_}
                self._slot["bin", at] = layout.counter("model_feedback_bin", _BINS, labels)

    def _declare_classes(self, layout: Layout, age: int, labels: Labels) -> None:
        for code, name in enumerate(self._classes):
            for outcome in _CLASS_OUTCOMES:
                self._slot[age, outcome, code] = layout.counter(
                    "model_feedback_class",
                    "Labels of a class that was predicted (true positive) or was not (false"
                    " negative), and of others for which it was (false positive).",
                    {**labels, "class": name, "outcome": outcome},
                )
            if len(self._classes) <= MAX_CONFUSION_CLASSES:
                for other, actual in enumerate(self._classes):
                    self._slot[age, code, other] = layout.counter(
                        "model_feedback_confusion",
                        "Labels by the predicted class and the true one.",
                        {**labels, "predicted": name, "actual": actual},
                    )

    def _declare_scores(self, layout: Layout, age: int, labels: Labels) -> None:
        for loss, text in _LOSSES.items():
            for power, name in ((1, f"{loss}_sum"), (2, f"{loss}_squared_sum")):
                help_text = f"Sum of {text}{', squared' if power > 1 else ''}."
                self._slot[age, loss, power] = layout.counter(
                    f"model_feedback_{name}", help_text, labels
                )
        for at in range(len(SCORE_EDGES) + 1):
            for outcome in (True, False):
                self._slot[age, "score", at, outcome] = layout.counter(
                    "model_feedback_score_bin",
                    "Labels by the bin of the score, and whether its class was the true one.",
                    {**labels, "bin": f"{at:02}", "outcome": str(outcome).lower()},
                )
        for at in range(_CONFIDENCE_BINS):
            self._slot[age, "confidence", at] = layout.counter(
                "model_feedback_confidence_sum",
                "Sum of the probability of the predicted class, by ten equal bins of it.",
                {**labels, "bin": f"{at:02}"},
            )
            self._slot[age, "right", at] = layout.counter(
                "model_feedback_confidence_right",
                "Labels as predicted, by the same bins.",
                {**labels, "bin": f"{at:02}"},
            )

    def _declare_above(self, layout: Layout, labels: Labels) -> None:
        for at in range(len(SCORE_EDGES) + 1):
            self._slot["above", at] = layout.counter(
                "model_feedback_score_above",
                "Labels of the second class with a score above the bin; with them, the area under"
                " the ROC curve needs no order of bins.",
                {**labels, "bin": f"{at:02}"},
            )


def _of_prediction(manifest: Manifest) -> Reference:
    return next(each for each in manifest.reference if each.name == PREDICTION)


def _age(delay: float) -> int:
    """Return the index of the age class."""
    return next(index for index, limit in enumerate(AGES.values()) if delay <= limit)


def _brier(probabilities: Floats, actual: int) -> float:
    """Return Σ (p - y)² over the classes, halved for two, as scikit-learn does."""
    outcomes = np.zeros(len(probabilities))
    outcomes[actual] = 1
    total = float(((probabilities - outcomes) ** 2).sum())
    return total / 2 if len(probabilities) == _BINARY else total
