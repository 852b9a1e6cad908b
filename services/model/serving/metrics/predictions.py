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
from serving.metrics.distributions import Distributions
from serving.metrics.repeats import SPANS, Repeats
from serving.metrics.slots import Layout
from serving.spool import OUTCOMES, Outcome

log = logging.getLogger(__name__)

_IGNORED = Fault(OTHER, "unknown")
INFERENCE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0)


class ModelMetrics:
    """The families of one model in one worker. Not thread-safe."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        self._repeats = Repeats(directory)
        labels = {"model": manifest.name, "version": manifest.version}
        counters, histograms = Layout("counter"), Layout("histogram")
        self._distributions = Distributions(
            manifest.reference, _value_bounds(manifest), counters, histograms, labels
        )
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
        *self._buckets, self._sum = self._histograms.places[seconds]
        self._repeated = {span: self._counters.places[slot] for span, slot in repeats.items()}

    def record(self, rows: Floats, predictions: Floats, seconds: float) -> None:
        """Count one call of the estimator: rows (n, features), NaN where missing, and (n,)."""
        try:
            self._distributions.count(rows, predictions)
            cells = self._histograms.cells
            cells[self._buckets[bisect_left(INFERENCE_BOUNDS, seconds)]] += 1
            cells[self._sum] += seconds
            for span, earlier in self._repeats.count(rows).items():
                self._counters.cells[self._repeated[span]] += earlier
        except Exception:
            # The prediction is answered all the same.
            log.exception("a prediction was not counted")
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


def _value_bounds(manifest: Manifest) -> tuple[float, ...]:
    """Return 21 bounds over the target's range, else over the training predictions' range.

    Unlike the bins of the reference, they are the same for most versions of a model.
    """
    target, seen = manifest.target, manifest.reference[-1]
    low = seen.minimum if target.minimum is None else target.minimum
    high = seen.maximum if target.maximum is None else target.maximum
    return tuple(np.linspace(low, high, 21).tolist())


def _faults(manifest: Manifest) -> Iterable[Fault]:
    """Return the closed list of faults that have a series."""
    for feature in manifest.features:
        for reason in REASONS:
            yield Fault(feature.name, reason)
    for reason in BODY_REASONS:
        yield Fault(BODY, reason)
    yield _IGNORED
