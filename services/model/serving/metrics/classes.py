"""What a classification adds to the metrics of predictions: its classes, and its confidence."""

from collections.abc import Sequence

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import Manifest
from serving.metrics.slots import Labels, Layout, Slots
from serving.outcomes import codes_of, scores_of
from serving.values import to_text


class ClassMetrics:
    """The predictions of each class, and how many are expected to be right. Not thread-safe."""

    def __init__(self, manifest: Manifest, counters: Layout, labels: Labels) -> None:
        self._classes = len(manifest.classes)
        start = len(counters.keys)
        for each in manifest.classes:
            counters.counter(
                "model_prediction_class",
                "Rows predicted, by the predicted class.",
                {**labels, "class": to_text(each)},
            )
        self._slots = slice(start, len(counters.keys))
        self._calibrate: Line | None = None
        if manifest.calibration is not None:
            self._calibrate = Line(manifest.calibration.points)
            self._confidence = counters.counter(
                "model_prediction_confidence_sum",
                "Sum over rows of the calibrated probability that the predicted class is right.",
                labels,
            )

    def bind(self, counters: Slots) -> None:
        """Use these slots, which were created from the layout."""
        self._counters = counters
        self._positions = counters.positions[self._slots]

    def count(self, outputs: Floats) -> tuple[Floats, ...]:
        """Count the outputs of n rows; return the signals: codes of classes, and any scores."""
        codes = codes_of(outputs)
        self._counters.values[self._positions] += np.bincount(codes, minlength=self._classes)
        if outputs.ndim == 1:
            return (outputs,)
        if self._calibrate is not None:
            # The ufuncs' own reductions take half the time of `max` and `sum`.
            confidence = self._calibrate(np.maximum.reduce(outputs, axis=1))
            self._counters.increment(self._confidence, float(np.add.reduce(confidence)))
        return codes.astype(np.float64), scores_of(outputs, codes)


class Line:
    """A line through points, constant before the first and after the last one.

    It returns what np.interp returns, which takes twice as long for a few values.
    """

    def __init__(self, points: Sequence[Sequence[float]]) -> None:
        """Take (n, 2), ascending in x."""
        x, y = np.array(points).T
        self._x = x
        self._start = np.array([x[0], *x])
        self._base = np.array([y[0], *y])
        run = np.diff(x)
        # A step has no slope, and no x is within it.
        slope = np.divide(np.diff(y), run, out=np.zeros(len(run)), where=run > 0)
        self._slope = np.array([0.0, *slope, 0.0])

    def __call__(self, x: Floats) -> Floats:
        """Return y for each x (n,)."""
        piece = self._x.searchsorted(x, "right")
        y: Floats = x - self._start.take(piece)
        y *= self._slope.take(piece)
        y += self._base.take(piece)
        return y
