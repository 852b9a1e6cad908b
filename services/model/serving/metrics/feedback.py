"""The metric families of the realized error: sums by version and by the age of the prediction.

From these sums of powers of the errors, recording rules compute MAE (mean absolute error), RMSE
(root mean squared error), bias and their confidence intervals.
"""

from bisect import bisect_right
from pathlib import Path

import numpy as np

from bundle.manifest import Manifest
from serving.metrics.slots import Layout, Slots
from serving.prediction_id import PredictionId

REJECTIONS = ("unknown", "expired", "duplicate", "malformed")
_HOUR = 3_600.0
_DAY = 24 * _HOUR
# Age classes with their upper limits, in seconds between prediction and label.
AGES = {"1h": _HOUR, "1d": _DAY, "7d": 7 * _DAY, "older": float("inf")}

_HELP = {
    "": "Labels accepted.",
    "_absolute_error_sum": "Sum of |prediction - actual|, in units of the target.",
    "_squared_error_sum": "Sum of (prediction - actual)².",
    "_quartic_error_sum": "Sum of (prediction - actual)⁴, for the RMSE's confidence interval.",
    "_delay_seconds_sum": "Sum of the time between prediction and label.",
}
# Errors are clipped to this multiple of the predictions' standard deviation. Otherwise one absurd
# label could overflow the sum of fourth powers, or make it too large for later labels to change it.
MAX_ERROR_SIGMAS = 1_000.0
_SIGNED = "Sum of |prediction - actual| by sign; positive minus negative, per label, is the bias."
_BINS = "Labels by the reference bin of the prediction; of the running version only."
_BIN_ERRORS = "Sum of |prediction - actual| by the reference bin of the prediction."


class FeedbackMetrics:
    """The metric families of one model in one worker. Not thread-safe."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._model, self._version = manifest.name, manifest.version
        self._edges = manifest.reference[-1].edges
        self._bins = [each.bin for each in manifest.reference[-1].bins]
        self._directory = directory
        self._max_error = MAX_ERROR_SIGMAS * manifest.reference[-1].sigma
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
        self._of(manifest.version)

    def record(self, prediction: PredictionId, actual: float, delay: float) -> None:
        """Count one label that arrived `delay` seconds after its prediction."""
        error = min(max(prediction.prediction - actual, -self._max_error), self._max_error)
        age = next(i for i, limit in enumerate(AGES.values()) if delay <= limit)
        amounts = np.array(
            [1.0, abs(error), error**2, error**4, delay, max(error, 0.0), max(-error, 0.0)]
        )
        slots = self._of(prediction.version)
        slots.add(slice(age * len(amounts), (age + 1) * len(amounts)), amounts)
        if prediction.version == self._version:
            # The bins of another version are unknown here.
            first = len(AGES) * len(amounts) + 2 * bisect_right(self._edges, prediction.prediction)
            slots.add(slice(first, first + 2), amounts[:2])

    def reject(self, reason: str) -> None:
        """Count one rejected label."""
        self._rejections.increment(self._rejected[reason], 1)

    def _of(self, version: str) -> Slots:
        """Return a version's slots; those of another version are created when needed."""
        if version not in self._versions:
            self._versions[version] = self._declare(version)
        return self._versions[version]

    def _declare(self, version: str) -> Slots:
        layout = Layout("counter")
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
        return layout.create(self._directory, f"feedback-{version}")
