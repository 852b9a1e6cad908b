"""The model's metric families, and the one place where predictions become metrics.

Counters live in slots (slots.py), one file per worker. Facts that the bundle states are exported
once, by the metrics server (bundle_facts.py).
"""

import logging
from bisect import bisect_left
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import Manifest
from serving.inputs import BODY, BODY_REASONS, OTHER, REASONS, Fault
from serving.metrics.classes import ClassMetrics
from serving.metrics.distributions import Distributions, HistogramOfLast
from serving.metrics.repeats import SPANS, Repeats
from serving.metrics.slots import Layout
from serving.spool_room import OUTCOMES, Outcome

log = logging.getLogger(__name__)

_IGNORED = Fault(OTHER, "unknown")
INFERENCE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0)


class ModelMetrics:
    """The families of one model in one worker. Not thread-safe."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._repeats = Repeats(directory, len(manifest.features))
        labels = {"model": manifest.name, "version": manifest.version}
        counters, histograms = Layout("counter"), Layout("histogram")
        outputs = len(manifest.reference) - len(manifest.monitored)
        self._distributions = Distributions(
            manifest.reference,
            outputs,
            manifest.pairs,
            _histogram(manifest),
            counters,
            histograms,
            labels,
        )
        self._classes = ClassMetrics(manifest, counters, labels) if manifest.classes else None
        self._monitored = _monitored(manifest)
        repeats = {
            span: counters.counter(
                "model_feature_repeats",
                "Earlier occurrences of the same row within the span, estimated.",
                {**labels, "span": span},
            )
            for span in SPANS
        }
        self._failures = counters.counter(
            "model_monitoring_failures",
            "Batches of predictions that were answered but not counted.",
            labels,
        )
        self._rejected_rows = counters.counter(
            "model_rows_rejected", "Rejected rows, each counted once.", labels
        )
        self._rejected = {
            fault: counters.counter(
                "model_input_rejected",
                "Faults for which inputs were rejected. Reason unknown: an undeclared field, which"
                " was ignored.",
                {**labels, **fault._asdict()},
            )
            for fault in _faults(manifest)
        }
        self._spooled = {
            outcome: counters.counter(
                "model_spool_events",
                "Events for the spool: written, failed (disk error), or dropped (spool full).",
                {**labels, "outcome": outcome},
            )
            for outcome in OUTCOMES
        }
        seconds = histograms.histogram(
            "model_inference_seconds",
            "Time in the estimator, per call.",
            labels,
            INFERENCE_BOUNDS,
        )
        self._counters = counters.create(directory, "model")
        self._histograms = histograms.create(directory, "model")
        self._distributions.bind(self._counters, self._histograms)
        if self._classes is not None:
            self._classes.bind(self._counters)
        *self._buckets, self._sum = self._histograms.places[seconds]
        self._repeated = {span: self._counters.places[slot] for span, slot in repeats.items()}

    def record(self, rows: Floats, outputs: Floats, seconds: float) -> None:
        """Count one call of the model: codes of rows (n, features), NaN where missing, and outputs.

        Outputs are (n,) or, of a classification, its probabilities (n, classes).
        """
        try:
            signals = (outputs,) if self._classes is None else self._classes.count(outputs)
            monitored = rows if self._monitored is None else rows[:, self._monitored]
            self._distributions.count(monitored, *signals)
            cells = self._histograms.cells
            cells[self._buckets[bisect_left(INFERENCE_BOUNDS, seconds)]] += 1
            cells[self._sum] += seconds
            if self._repeats.add(rows):
                self._count_repeats()
        except Exception:
            # The prediction is answered all the same.
            log.exception("a prediction was not counted")
            self._counters.increment(self._failures, 1)

    def catch_up(self) -> None:
        """Count what may wait for a second: how often the latest rows had come before."""
        try:
            self._count_repeats()
        except Exception:
            log.exception("repeated rows were not counted")
            self._counters.increment(self._failures, 1)

    def reject(self, faults: Iterable[Fault], rows: int) -> None:
        """Count the faults of an input, and the rows that were rejected for them."""
        self._counters.increment(self._rejected_rows, rows)
        for fault in faults:
            self._counters.increment(self._rejected[fault], 1)

    def ignore(self, fields: int) -> None:
        """Count undeclared fields, which were ignored."""
        self._counters.increment(self._rejected[_IGNORED], fields)

    def spool(self, outcome: Outcome, events: int) -> None:
        """Count the outcome of events for the spool."""
        self._counters.increment(self._spooled[outcome], events)

    def _count_repeats(self) -> None:
        for span, earlier in self._repeats.count().items():
            self._counters.cells[self._repeated[span]] += earlier


def _histogram(manifest: Manifest) -> HistogramOfLast:
    """Return the histogram of predictions or scores.

    It has 21 bounds over the target's range, else over the training predictions' range. Unlike the
    bins of the reference, they are the same for most versions of a model.
    """
    if manifest.task == "classification":
        bounds = np.linspace(0, 1, 21).tolist() if manifest.probabilities else ()
        text = "Probability of the second of two classes, else of the predicted class."
        return HistogramOfLast("model_prediction_score", text, bounds)
    target, seen = manifest.target, manifest.reference[-1]
    low = seen.minimum if target.minimum is None else target.minimum
    high = seen.maximum if target.maximum is None else target.maximum
    text = "Predictions, in units of the target."
    return HistogramOfLast("model_prediction_value", text, np.linspace(low, high, 21).tolist())


def _monitored(manifest: Manifest) -> list[int] | None:
    """Return the columns of the monitored features, or None if all are."""
    columns = [at for at, feature in enumerate(manifest.features) if feature.monitored]
    return None if len(columns) == len(manifest.features) else columns


def _faults(manifest: Manifest) -> Iterable[Fault]:
    """Return the closed list of faults that have a series."""
    for feature in manifest.features:
        for reason in REASONS:
            yield Fault(feature.name, reason)
    for reason in BODY_REASONS:
        yield Fault(BODY, reason)
    yield _IGNORED
