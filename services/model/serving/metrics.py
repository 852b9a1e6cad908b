"""Every metric family of the model, and the one place where predictions become metrics.

Counters live in slots (see slots.py), one file per worker; facts that the bundle states are
exported once, by the metrics server (see facts.py).
"""

import logging
from collections.abc import Iterable
from itertools import pairwise
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
_MAX_UINT8 = 255


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
        bounds = _value_bounds(manifest)
        self._value_bounds, self._buckets = np.array(bounds), len(bounds) + 1
        self._value = histograms.histogram(
            "model_prediction_value",
            "Predictions, in units of the target.",
            labels,
            bounds,
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
            self._counters.increment(self._predictions, len(rows))
            values = np.empty((len(rows), rows.shape[1] + 1))
            values[:, :-1], values[:, -1] = rows, predictions
            ordinary = self._signals.record(values, self._counters)
            self._observe_values(predictions, np.add.reduce(ordinary[:, -1]))
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

    def _observe_values(self, predictions: Floats, total: float) -> None:
        """Add predictions (n,) to their histogram."""
        bins = self._value_bounds.searchsorted(predictions)
        amounts = np.empty(self._buckets + 1)
        amounts[:-1], amounts[-1] = np.bincount(bins, minlength=self._buckets), total
        self._histograms.add(self._value, amounts)


class _Signals:
    """The distribution counters of k signals: the features in order, then the prediction.

    What is added for a batch is one vector; its parts lie in the slots in the order declared here.

    Rows are counted by how many values reach each edge, the training's minimum and maximum among
    them: the rows of a bin are those that reach its lower edge, less those that reach the next.
    """

    def __init__(
        self, references: tuple[Reference, ...], layout: Layout, labels: dict[str, str]
    ) -> None:
        self._mean = np.array([each.mean for each in references])
        sigma = np.array([each.sigma for each in references])
        self._per_sigma = 1 / sigma
        self._least = self._mean - MAX_ABSOLUTE_Z * sigma
        self._most = self._mean + MAX_ABSOLUTE_Z * sigma
        self._nullable = any(each.bins[-1].bin == "missing" for each in references)
        width = max(len(each.edges) for each in references) + 2
        # (width, k), so that a comparison runs along the signals of a row, as they lie in memory.
        self._edges = np.array([_edges(each, width) for each in references]).T.copy()
        self._reach, self._reach_next = np.array(_differences(references, width), np.intp).T.copy()
        # What `_differences` refers to, in the order it says.
        self._counts = np.zeros(self._edges.size + 2 * len(references) + 1, np.intp)
        self._reached, self._present, self._missing, _ = np.split(
            self._counts, self._edges.size + np.array([0, 1, 2]) * len(references)
        )
        self._amounts = np.empty(len(self._reach) + 3 * len(references))
        self._rows, sums = np.split(self._amounts, [len(self._reach)])
        self._sums = sums.reshape(3, -1)
        start = len(layout.keys)
        self._declare(references, layout, labels)
        self._slots = slice(start, len(layout.keys))

    def record(self, values: Floats, counters: Slots) -> Floats:
        """Count values (n, k), NaN where missing; return them without absurd ones."""
        ordinary = np.maximum(values, self._least)
        np.minimum(ordinary, self._most, out=ordinary)
        z = (ordinary - self._mean) * self._per_sigma
        self._present[:] = len(values)
        if self._nullable:
            nan = np.isnan(values)
            np.add.reduce(nan, axis=0, dtype=np.intp, out=self._missing)
            self._present -= self._missing
            z[nan] = 0.0
        self._reached[:] = self._count_reached(values)
        np.subtract(self._counts[self._reach], self._counts[self._reach_next], out=self._rows)
        parts = np.empty((3, *z.shape))
        positive, negative, squared = parts
        np.maximum(z, 0.0, out=positive)
        np.subtract(positive, z, out=negative)
        np.multiply(z, z, out=squared)
        np.add.reduce(parts, axis=1, out=self._sums)
        counters.add(self._slots, self._amounts)
        return ordinary

    def _count_reached(self, values: Floats) -> NDArray[np.intp]:
        """Return (width·k,) how many of each signal's values (n, k) reach each of its edges."""
        reached = (values[:, None, :] >= self._edges).view(np.uint8)
        # Small counts add up faster in few bits.
        counts: NDArray[np.intp] = np.add.reduce(
            reached, axis=0, dtype=np.uint8 if len(values) <= _MAX_UINT8 else np.intp
        )
        return counts.ravel()

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
        for side in ("below", "above"):
            declare("model_feature_out_of_range", "Rows outside what training saw.", side=side)
        for sign in ("pos", "neg"):
            declare(
                "model_feature_zscore_sum",
                "Sum of |z| by sign of z; their difference over the rows is the mean shift in σ.",
                sign=sign,
            )
        declare("model_feature_zscore_squared_sum", "Sum of z².")


def _differences(references: tuple[Reference, ...], width: int) -> list[tuple[int, int]]:
    """Return the two counts whose difference each counter of rows is, in the order declared.

    The counts, for k signals: of the values that reach each of width·k edges, of those present (k),
    of those missing (k), and a 0.
    """
    signals = len(references)
    present = width * signals
    missing = present + signals
    zero = missing + signals
    bins: list[tuple[int, int]] = []
    below, above = [], []
    for i, each in enumerate(references):
        reach = range(i, present, signals)
        *_, minimum, above_maximum = reach
        bins += pairwise([present + i, *reach[: len(each.edges)], zero])
        if each.bins[-1].bin == "missing":
            bins.append((missing + i, zero))
        below.append((present + i, minimum))
        above.append((above_maximum, zero))
    return [*bins, *below, *above]


def _edges(reference: Reference, width: int) -> list[float]:
    """Return the inner edges, padding, the minimum, and the first number above the maximum."""
    padding = [np.inf] * (width - len(reference.edges) - 2)
    return [*reference.edges, *padding, reference.minimum, np.nextafter(reference.maximum, np.inf)]


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
