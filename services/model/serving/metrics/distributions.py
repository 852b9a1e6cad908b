"""The series that describe the distributions of values, and their update by a batch of rows.

A batch is reduced to one vector of sums: the number of values that reach each edge, Σ|z| by sign of
the z-score z, Σz², and the number of rows. Every series is the difference of two of these sums: the
rows in a bin are those that reach its lower edge minus those that reach the next edge. So counting
takes the same few NumPy calls for any number of signals and bins.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.manifest import Reference
from serving.metrics.slots import Labels, Layout, Slots

# z is clipped, because an absurd value could make a float64 sum too large for later values to
# change it.
MAX_ABSOLUTE_Z = 1_000.0
# Rows per vector of sums: counts fit in a byte, and the memory in a processor's cache.
_ROWS = 128


class Distributions:
    """The counters of all signals (the features in order, then the prediction) and a histogram.

    The histogram is that of the prediction; its `bounds` are ascending. Not thread-safe.
    """

    def __init__(
        self,
        references: Sequence[Reference],
        bounds: Sequence[float],
        counters: Layout,
        histograms: Layout,
        labels: Labels,
    ) -> None:
        self._sums = _Sums(references, bounds)
        at = self._sums.indices
        start = len(counters.keys)
        signals = [*_declare_signals(references, at, counters, labels)]
        self._signals = slice(start, len(counters.keys))
        self._values = histograms.histogram(
            "model_prediction_value", "Predictions, in units of the target.", labels, bounds
        )
        values = [*_value_differences(len(references), len(bounds), at)]
        self._more, self._less = np.array(signals + values, np.intp).T.copy()
        self._totals = np.zeros(len(self._more))
        self._of_signals, self._of_values = np.split(self._totals, [len(signals)])

    def bind(self, counters: Slots, histograms: Slots) -> None:
        """Use these slots, which were created from the layouts."""
        self._counters, self._histograms = counters.values, histograms.values
        self._counter_positions = counters.positions[self._signals]
        self._histogram_positions = histograms.positions[self._values]

    def count(self, rows: Floats, predictions: Floats) -> None:
        """Count rows (n, features), NaN where missing, and their predictions (n,)."""
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            sums = self._sums.of(rows[part], predictions[part])
            self._totals += sums[self._more] - sums[self._less]
            self._counters[self._counter_positions] = self._of_signals
            self._histograms[self._histogram_positions] = self._of_values


class _Parts(NamedTuple):
    """The parts of a vector of sums, or of the indices into it.

    Each signal has a column. Further columns are for the histogram of the prediction; their edges
    are its bounds, and their z is the value itself.
    """

    # (edges, columns): how many values reach each edge of `_edges`.
    reached: NDArray[Any]
    # (3, columns): Σ|z| of positive z, Σ|z| of negative z, Σz².
    moments: NDArray[Any]
    # The number of rows, and 0.
    rows: NDArray[Any]
    zero: NDArray[Any]


class _Views(NamedTuple):
    """The memory for a batch of n rows, and n rows of the constants."""

    # (n, columns), of which the first are the features; and a view for comparing with every edge.
    values: Floats
    features: Floats
    predictions: Floats
    comparable: Floats
    least: Floats
    most: Floats
    mean: Floats
    per_sigma: Floats
    # (n, edges, columns), and the same memory as numbers.
    is_reached: NDArray[np.bool_]
    reached: NDArray[np.uint8]
    # (3, n, columns), and its parts.
    terms: Floats
    positive: Floats
    negative: Floats
    squared: Floats


class _Sums:
    """Reduces batches to sums.

    All arrays and views are created once, and constants are repeated for every row: creating arrays
    and broadcasting would take as long as the arithmetic.
    """

    def __init__(self, references: Sequence[Reference], bounds: Sequence[float]) -> None:
        self._features = len(references) - 1
        self._edges = _edges(references, bounds)
        columns = self._edges.shape[1]
        scales = [(each.mean, each.sigma) for each in references]
        mean, sigma = np.array(scales + scales[-1:] * (columns - len(scales))).T
        self._least = _repeated(mean - MAX_ABSOLUTE_Z * sigma)
        self._most = _repeated(mean + MAX_ABSOLUTE_Z * sigma)
        mean[len(scales) :], sigma[len(scales) :] = 0, 1
        self._mean, self._per_sigma = _repeated(mean), _repeated(1 / sigma)
        self._is_nullable = any(_is_nullable(each) for each in references)
        self._values = np.empty((_ROWS, columns))
        self._is_reached = np.empty((_ROWS, *self._edges.shape), np.bool_)
        self._terms = np.empty((3, _ROWS, columns))
        self._views: dict[int, _Views] = {}
        self._sums = np.zeros(self._edges.size + 3 * columns + 2)
        self._parts = self._split(self._sums)
        self.indices = self._split(np.arange(len(self._sums)))

    def of(self, rows: Floats, predictions: Floats) -> Floats:
        """Return the sums of rows (n ≤ _ROWS, features) and predictions (n,).

        The next call overwrites them. Raises ValueError.
        """
        n, features = rows.shape
        if features != self._features:
            raise ValueError(f"rows have {features} features instead of {self._features}")
        at = self._views.get(n) or self._view(n)
        at.features[:] = rows
        at.predictions[:] = predictions[:, None]
        np.greater_equal(at.comparable, self._edges, out=at.is_reached)
        # Counting is fastest in the smallest type.
        self._parts.reached[:] = np.add.reduce(at.reached, axis=0, dtype=np.uint8)
        z = at.values
        np.maximum(z, at.least, out=z)
        np.minimum(z, at.most, out=z)
        np.subtract(z, at.mean, out=z)
        np.multiply(z, at.per_sigma, out=z)
        if self._is_nullable:
            np.copyto(z, 0.0, where=np.isnan(z))
        np.maximum(z, 0.0, out=at.positive)
        np.subtract(at.positive, z, out=at.negative)
        np.multiply(z, z, out=at.squared)
        np.add.reduce(at.terms, axis=1, out=self._parts.moments)
        self._parts.rows[0] = n
        return self._sums

    def _view(self, n: int) -> _Views:
        """Create and return the memory for n rows."""
        values, is_reached, terms = self._values[:n], self._is_reached[:n], self._terms[:, :n]
        self._views[n] = _Views(
            values=values,
            features=values[:, : self._features],
            predictions=values[:, self._features :],
            comparable=values[:, None, :],
            least=self._least[:n],
            most=self._most[:n],
            mean=self._mean[:n],
            per_sigma=self._per_sigma[:n],
            is_reached=is_reached,
            reached=is_reached.view(np.uint8),
            terms=terms,
            positive=terms[0],
            negative=terms[1],
            squared=terms[2],
        )
        return self._views[n]

    def _split(self, vector: NDArray[Any]) -> _Parts:
        edges, columns = self._edges.shape
        sizes = edges * columns, 3 * columns, 1
        reached, moments, rows, zero = np.split(vector, np.cumsum(sizes))
        return _Parts(reached.reshape(edges, columns), moments.reshape(3, columns), rows, zero)


def _edges(references: Sequence[Reference], bounds: Sequence[float]) -> Floats:
    """Return the edges (edges, columns) that values may reach, padded with infinity.

    Those of a signal are -inf, which all values except NaN reach; the minimum; the next number
    above the maximum; and the edges between its bins. The columns of the histogram hold the next
    number above each bound.
    """
    columns = [
        [-np.inf, each.minimum, np.nextafter(each.maximum, np.inf), *each.edges]
        for each in references
    ]
    height = max(map(len, columns))
    above = np.nextafter(bounds, np.inf).tolist()
    columns += [above[start : start + height] for start in range(0, len(above), height)]
    return np.array([each + [np.inf] * (height - len(each)) for each in columns]).T.copy()


def _declare_signals(
    references: Sequence[Reference], at: _Parts, layout: Layout, labels: Labels
) -> Iterator[tuple[int, int]]:
    """Declare the counters; yield the indices of the two sums of which each is the difference."""
    present, minimum, above_maximum, *inner = at.reached
    positive, negative, squared = at.moments
    zero = np.broadcast_to(at.zero, present.shape)
    layout.counter("model_predictions", "Rows predicted.", labels)
    yield at.rows[0], at.zero[0]
    for signal, each in enumerate(references):
        reached = [edge[signal] for edge in (present, *inner[: len(each.edges)], zero)]
        bins = [*pairwise(reached)]
        if _is_nullable(each):
            bins.append((at.rows[0], present[signal]))
        for bin_, difference in zip(each.bins, bins, strict=True):
            layout.counter(
                "model_feature_bin",
                "Rows in each reference bin of each feature and of the prediction.",
                {**labels, "feature": each.name, "bin": bin_.bin},
            )
            yield difference
    ranges = "model_feature_out_of_range", "Rows outside the range of the training rows."
    z_sums = (
        "model_feature_zscore_sum",
        "Sum of |z| by sign of z; positive minus negative, per row, is the mean shift in σ.",
    )
    z_squares = "model_feature_zscore_squared_sum", "Sum of z²."
    for family, more, less, own in (
        (ranges, present, minimum, {"side": "below"}),
        (ranges, above_maximum, zero, {"side": "above"}),
        (z_sums, positive, zero, {"sign": "pos"}),
        (z_sums, negative, zero, {"sign": "neg"}),
        (z_squares, squared, zero, {}),
    ):
        for signal, each in enumerate(references):
            layout.counter(*family, {**labels, "feature": each.name, **own})
            yield more[signal], less[signal]


def _value_differences(signals: int, bounds: int, at: _Parts) -> Iterator[tuple[int, int]]:
    """Yield the same for the histogram: its buckets, which are not cumulative, and its sum."""
    above = at.reached[:, signals:].ravel(order="F")[:bounds]
    yield from pairwise([at.rows[0], *above, at.zero[0]])
    positive, negative, _ = at.moments[:, signals]
    yield positive, negative


def _repeated(row: Floats) -> Floats:
    return np.tile(row, (_ROWS, 1))


def _is_nullable(reference: Reference) -> bool:
    return reference.bins[-1].bin == "missing"
