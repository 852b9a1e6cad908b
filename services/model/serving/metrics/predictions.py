"""Every metric family of the model, and the one place where predictions become metrics.

Counters live in slots (see slots.py), one file per worker; facts that the bundle states are
exported once, by the metrics server (see facts.py).
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import Manifest
from serving.inputs import BODY, BODY_REASONS, OTHER, REASONS, Fault
from serving.metrics.distributions import Distributions
from serving.metrics.slots import Layout
from serving.spool import OUTCOMES, Outcome

log = logging.getLogger(__name__)

INFERENCE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0)


class ModelMetrics:
    """The families of one model in one worker. Not for use by several threads."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        labels = {"model": manifest.name, "version": manifest.version}
        counters, histograms = Layout("counter"), Layout("histogram")
        self._distributions = Distributions(
            manifest.reference, _value_bounds(manifest), counters, histograms, labels
        )
        self._predictions = counters.counter("model_predictions", "Rows predicted.", labels)
        self._failures = counters.counter(
            "model_monitoring_failures",
            "Batches of predictions that went out without being counted.",
            labels,
        )
        self._rejected = {
            fault: counters.counter(
                "model_input_rejected",
                "Faults for which inputs were refused; reason unknown: an undeclared field that"
                " was ignored.",
                {**labels, **fault._asdict()},
            )
            for fault in _faults(manifest)
        }
        self._spooled = {
            outcome: counters.counter(
                "model_spool_events",
                "Events for the spool: written, failed where the disk refused, dropped when full.",
                {**labels, "outcome": outcome},
            )
            for outcome in OUTCOMES
        }
        self._seconds = histograms.histogram(
            "model_inference_seconds",
            "Time in the estimator, per call.",
            labels,
            INFERENCE_BOUNDS,
        )
        self._counters = counters.create(directory, "model")
        self._histograms = histograms.create(directory, "model")

    def record(self, rows: Floats, predictions: Floats, seconds: float) -> None:
        """Count one call of the estimator: rows (n, features), NaN where missing, and (n,)."""
        try:
            self._counters.increment(self._predictions, len(rows))
            self._distributions.count(rows, predictions, self._counters, self._histograms)
            self._histograms.observe(self._seconds, INFERENCE_BOUNDS, seconds)
        except Exception:
            # The prediction still goes out.
            log.exception("a prediction was not counted")
            self._counters.increment(self._failures, 1)

    def reject(self, faults: Iterable[Fault]) -> None:
        """Count why an input was refused, or an undeclared field ignored."""
        for fault in faults:
            self._counters.increment(self._rejected[fault], 1)

    def spool(self, outcome: Outcome, events: int) -> None:
        """Count what became of events that were to be spooled."""
        self._counters.increment(self._spooled[outcome], events)


def _value_bounds(manifest: Manifest) -> tuple[float, ...]:
    """Return 21 bounds over the target's range, else over the predictions seen in training.

    Not the bins of the reference: those are another version's no longer.
    """
    target, seen = manifest.target, manifest.reference[-1]
    low = seen.minimum if target.minimum is None else target.minimum
    high = seen.maximum if target.maximum is None else target.maximum
    return tuple(np.linspace(low, high, 21).tolist())


def _faults(manifest: Manifest) -> Iterable[Fault]:
    """Return every fault there is a series for: the closed list."""
    for feature in manifest.features:
        for reason in REASONS:
            yield Fault(feature.name, reason)
    for reason in BODY_REASONS:
        yield Fault(BODY, reason)
    yield Fault(OTHER, "unknown")
