"""Every metric family of the model, and the one place where predictions become metrics.

Counters live in slots (see slots.py), one file per worker; facts that the bundle states are
exported once, by the metrics server (see facts.py).
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.manifest import Manifest, Reference
from serving.inputs import BODY, BODY_REASONS, OTHER, REASONS, Fault
from serving.slots import Layout, Slots
from serving.spool import OUTCOMES, Outcome

Floats = NDArray[np.float64]

log = logging.getLogger(__name__)

INFERENCE_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0)
# One absurd value must not be so large that a float64 sum no longer notices ordinary ones.
MAX_ABSOLUTE_Z = 1_000.0


class ModelMetrics:
    """The families of one model in one worker. Not for use by several threads."""

    def __init__(self, manifest: Manifest, directory: Path) -> None:
        labels = {"model": manifest.name, "version": manifest.version}
        counters, histograms = Layout("counter"), Layout("histogram")
        self._signals = _Signals(manifest.reference, counters, labels)
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
        self._value_bounds = _value_bounds(manifest)
        seen = manifest.reference[-1]
        reach = MAX_ABSOLUTE_Z * seen.sigma
        self._value_limits = (seen.mean - reach, seen.mean + reach)
        self._value = histograms.histogram(
            "model_prediction_value",
            "Predictions, in units of the target.",
            labels,
            self._value_bounds,
        )
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
            # Of an absurd value, z may be infinite before it is cut: no reason to warn.
            with np.errstate(over="ignore"):
                self._counters.add(self._predictions, len(rows))
                self._signals.record(np.column_stack((rows, predictions)), self._counters)
                values = np.clip(predictions, *self._value_limits)
                _observe(self._histograms, self._value, self._value_bounds, values)
                _observe(self._histograms, self._seconds, INFERENCE_BOUNDS, seconds)
        except Exception:
            # The prediction still goes out.
            log.exception("a prediction was not counted")
            self._counters.add(self._failures, 1)

    def reject(self, faults: Iterable[Fault]) -> None:
        """Count why an input was refused, or an undeclared field ignored."""
        for fault in faults:
            self._counters.add(self._rejected[fault], 1)

    def spool(self, outcome: Outcome, events: int) -> None:
        """Count what became of events that were to be spooled."""
        self._counters.increment(self._spooled[outcome], events)


class _Signals:
    """The distribution counters of k signals: the features in order, then the prediction.

    What is added for a batch is one vector; its parts lie in the slots in the order declared here.
    """

    def __init__(
        self, references: tuple[Reference, ...], layout: Layout, labels: dict[str, str]
    ) -> None:
        start = len(layout.keys)
        self._declare(references, layout, labels)
        self._slots = slice(start, len(layout.keys))

        width = max(len(each.edges) for each in references)
        self._edges = np.array(
            [[*each.edges, *[np.inf] * (width - len(each.edges))] for each in references]
        )
        bins = np.array([len(each.bins) for each in references])
        self._bins = int(bins.sum())
        self._first_bin = np.concatenate(([0], np.cumsum(bins)[:-1]))
        # Only read where a value is missing, and only a nullable feature's can be.
        self._missing_bin = self._first_bin + bins - 1
        self._nullable = any(each.bins[-1].bin == "missing" for each in references)
        self._mean = np.array([each.mean for each in references])
        self._per_sigma = 1 / np.array([each.sigma for each in references])
        self._minimum = np.array([each.minimum for each in references])
        self._maximum = np.array([each.maximum for each in references])

    def record(self, values: Floats, counters: Slots) -> None:
        """Count values (n, k), NaN where missing."""
        bins = (values[:, :, None] >= self._edges).sum(axis=2) + self._first_bin
        z = (values - self._mean) * self._per_sigma
        np.clip(z, -MAX_ABSOLUTE_Z, MAX_ABSOLUTE_Z, out=z)
        if self._nullable:
            missing = np.isnan(values)
            bins = np.where(missing, self._missing_bin, bins)
            z[missing] = 0.0
        positive = np.maximum(z, 0.0).sum(axis=0)
        amounts = (
            np.bincount(bins.ravel(), minlength=self._bins),
            positive,
            positive - z.sum(axis=0),
            (z * z).sum(axis=0),
            (values < self._minimum).sum(axis=0),
            (values > self._maximum).sum(axis=0),
        )
        counters.add(self._slots, np.concatenate(amounts))

    @staticmethod
    def _declare(references: tuple[Reference, ...], layout: Layout, labels: dict[str, str]) -> None:
        def declare(name: str, help_text: str, **more: str) -> None:
            for each in references:
                feature = {**labels, "feature": each.name}
                layout.counter(name, help_text, {**feature, **more})

        for each in references:
            for bin_ in each.bins:
                layout.counter(
                    "model_feature_bin",
                    "Rows per reference bin of each feature and of the prediction.",
                    {**labels, "feature": each.name, "bin": bin_.bin},
                )
        for sign in ("pos", "neg"):
            declare(
                "model_feature_zscore_sum",
                "Sum of |z| by sign of z; their difference over the rows is the mean shift in σ.",
                sign=sign,
            )
        declare("model_feature_zscore_squared_sum", "Sum of z².")
        for side in ("below", "above"):
            declare("model_feature_out_of_range", "Rows outside what training saw.", side=side)


def _observe(
    slots: Slots,
    histogram: slice,
    bounds: tuple[float, ...],
    values: Floats | float,
) -> None:
    """Add values to a histogram's buckets (value ≤ bound) and sum."""
    buckets = np.searchsorted(bounds, np.atleast_1d(values), side="left")
    counts = np.bincount(buckets, minlength=len(bounds) + 1)
    slots.add(histogram, np.append(counts, np.sum(values)))


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
