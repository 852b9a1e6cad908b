"""The realized error by segment: labels and errors for each bin of these features."""

from pathlib import Path

from bundle.manifest import Manifest
from serving.metrics.slots import Layout
from serving.segments import create_segments

_ROWS = "Labels by the bin of a segment; of the running version only."
_ERRORS = "Sum of |prediction - actual| by the bin of a segment, in units of the target."
_SQUARES = "Sum of (prediction - actual)² by the bin of a segment, for the confidence interval."
_WRONG = "Labels that are not as predicted, by the bin of a segment."


class SegmentMetrics:
    """The families of one model in one worker, none without segments. Not thread-safe."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._segments = create_segments(manifest)
        self._is_regression = manifest.task == "regression"
        if self._segments is None:
            return
        layout = Layout("counter")
        self._first = [self._declare(layout, manifest, at) for at in range(len(manifest.segments))]
        # Of the same slots in each bin.
        self._width = 3 if self._is_regression else 2
        self._slots = layout.create(directory, "feedback_segments")

    def _declare(self, layout: Layout, manifest: Manifest, place: int) -> int:
        first, segment = len(layout.keys), manifest.segments[place]
        for each in segment.bins:
            labels = {"model": manifest.name, "version": manifest.version}
            labels |= {"feature": segment.feature, "bin": each.bin}
            layout.counter("model_feedback_segment", _ROWS, labels)
            if self._is_regression:
                layout.counter("model_feedback_segment_absolute_error_sum", _ERRORS, labels)
                layout.counter("model_feedback_segment_squared_error_sum", _SQUARES, labels)
            else:
                layout.counter("model_feedback_segment_wrong", _WRONG, labels)
        return first

    def record(self, mark: bytes, error: float) -> None:
        """Count the label of a prediction with this mark (see serving.segments).

        `error` is |prediction − actual|, or of a classification 1 if it is wrong, else 0.
        """
        if not mark or self._segments is None:
            return
        for segment, bin_ in self._segments.bins(mark):
            slot = self._first[segment] + self._width * bin_
            self._slots.increment(slot, 1)
            self._slots.increment(slot + 1, error)
            if self._is_regression:
                self._slots.increment(slot + 2, error**2)
