"""The series that describe the distributions of values, and their update by a batch of rows.

A batch is reduced to one vector of sums: the number of values that reach each edge, Σ|z| by sign of
the z-score z, Σz², the same of the product zᵢzⱼ of each pair, and the number of rows. Every series
is the difference of two of these sums: the rows in a bin are those that reach its lower edge minus
those that reach the next edge. So counting takes the same few NumPy calls for any number of
signals, bins and pairs.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.manifest import MISSING, Pair, Reference
from serving.metrics.slots import Labels, Layout, Slots

# z is clipped, because an absurd value could make a float64 sum too large for later values to
# change it.
MAX_ABSOLUTE_Z = 1_000.0
# Rows per vector of sums: counts fit in a byte, and the memory in a processor's cache.
_ROWS = 128


class HistogramOfLast(NamedTuple):
    """The histogram of the last signal; its `bounds` are ascending, and without any it has none."""

    name: str
    help_text: str
    bounds: Sequence[float]


class Distributions:
    """The counters of all signals (the features in order, then `outputs` ones) and a histogram.

    Not thread-safe.
    """

    def __init__(  # noqa: PLR0913, PLR0917 two layouts
        self,
        references: Sequence[Reference],
        outputs: int,
        pairs: Sequence[Pair],
        histogram: HistogramOfLast,
        counters: Layout,
        histograms: Layout,
        labels: Labels,
    ) -> None:
        bounds = histogram.bounds
        self._sums = _Sums(references, outputs, pairs, bounds)
        at = self._sums.indices
        start = len(counters.keys)
        signals = [
            *_declare_signals(references, at, counters, labels),
            *_declare_pairs(pairs, at, counters, labels),
        ]
        self._signals = slice(start, len(counters.keys))
        self._values, values = slice(0, 0), list[tuple[int, int]]()
        if bounds:
            self._values = histograms.histogram(histogram.name, histogram.help_text, labels, bounds)
            values = [*_value_differences(len(references), len(bounds), at)]
        self._more, self._less = np.array(signals + values, np.intp).T.copy()
        self._totals, self._added, self._taken = np.zeros((3, len(self._more)))
        self._of_signals, self._of_values = np.split(self._totals, [len(signals)])

    def bind(self, counters: Slots, histograms: Slots) -> None:
        """Use these slots, which were created from the layouts."""
        self._counters, self._histograms = counters.values, histograms.values
        self._counter_positions = counters.positions[self._signals]
        self._histogram_positions = histograms.positions[self._values]

    def count(self, rows: Floats, *outputs: Floats) -> None:
        """Count rows (n, features), NaN where missing, and their outputs, (n,) each."""
        if len(rows) <= _ROWS:
            self._count(rows, outputs)
            return
        for start in range(0, len(rows), _ROWS):
            part = slice(start, start + _ROWS)
            self._count(rows[part], [each[part] for each in outputs])

    def _count(self, rows: Floats, outputs: Sequence[Floats]) -> None:
        sums = self._sums.of(rows, outputs)
        # Into memory that is there, and by indices that are right: a third of the time.
        sums.take(self._more, 0, self._added, "clip")
        sums.take(self._less, 0, self._taken, "clip")
        self._added -= self._taken
        self._totals += self._added
        self._counters[self._counter_positions] = self._of_signals
        self._histograms[self._histogram_positions] = self._of_values


class _Parts(NamedTuple):
    """The parts of a vector of sums, or of the indices into it.

    Each signal has a column. Further columns are for the histogram of the last signal; their edges
    are its bounds, and their z is the value itself. The last ones are for the pairs; they have no
    edges, and their z is the product zᵢzⱼ.
    """

    # (edges, columns): how many values reach each edge of `_edges`.
    reached: NDArray[Any]
    # (3, columns): Σ|z| of positive z, Σ|z| of negative z, Σz².
    moments: NDArray[Any]
    # (pairs,): the rows that have both values; or () if no value can be missing.
    both: NDArray[Any]
    # The number of rows, and 0.
    rows: NDArray[Any]
    zero: NDArray[Any]


class _Views(NamedTuple):
    """The memory for a batch of n rows, and n rows of the constants."""

    # (n, columns), of which the first are the features and the last the products of the pairs; and
    # a view for comparing with every edge.
    values: Floats
    features: Floats
    outputs: list[Floats]
    products: Floats
    comparable: Floats
    least: Floats
    most: Floats
    mean: Floats
    per_sigma: Floats
    # (n, edges, columns), and the same memory as numbers.
    is_reached: NDArray[np.bool_]
    reached: NDArray[np.uint8]
    # (n, features), whether there is a value.
    present: NDArray[np.uint8]
    # (n, 2 · pairs), z of the first and the second features, and the parts.
    members: Floats
    first: Floats
    second: Floats
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

    def __init__(
        self,
        references: Sequence[Reference],
        outputs: int,
        pairs: Sequence[Pair],
        bounds: Sequence[float],
    ) -> None:
        self._features = len(references) - outputs
        # The last output is also that of the histogram.
        self._last = len(references) - 1
        self._members, self._pairs = _members(references, pairs), len(pairs)
        self._edges = _edges(references, bounds)
        columns = self._edges.shape[1]
        self._columns = columns + len(pairs)
        scales = [_scale(each) for each in references]
        mean, sigma = np.array(scales + scales[-1:] * (self._columns - len(scales))).T
        self._least = _repeated(mean - MAX_ABSOLUTE_Z * sigma)
        self._most = _repeated(mean + MAX_ABSOLUTE_Z * sigma)
        mean[len(scales) :], sigma[len(scales) :] = 0, 1
        self._mean, self._per_sigma = _repeated(mean), _repeated(1 / sigma)
        self._is_nullable = any(_is_nullable(each) for each in references)
        self._values = np.zeros((_ROWS, self._columns))
        self._of_members = np.empty((_ROWS, 2 * len(pairs)))
        self._is_reached = np.empty((_ROWS, *self._edges.shape), np.bool_)
        self._terms = np.empty((3, _ROWS, self._columns))
        self._views: dict[int, _Views] = {}
        both = len(pairs) if self._is_nullable else 0
        self._sizes = self._edges.size, 3 * self._columns, both, 1
        self._sums = np.zeros(sum(self._sizes) + 1)
        self._parts = self._split(self._sums)
        self.indices = self._split(np.arange(len(self._sums)))

    def of(self, rows: Floats, outputs: Sequence[Floats]) -> Floats:
        """Return the sums of rows (n ≤ _ROWS, features) and outputs, (n,) each.

        The next call overwrites them. Raises ValueError.
        """
        n, features = rows.shape
        if features != self._features:
            raise ValueError(f"rows have {features} features instead of {self._features}")
        at = self._views.get(n) or self._view(n)
        at.features[:] = rows
        for columns, output in zip(at.outputs, outputs, strict=True):
            columns[:] = output[:, None]
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
        if self._pairs:
            self._multiply(at)
        np.maximum(z, 0.0, out=at.positive)
        np.subtract(at.positive, z, out=at.negative)
        np.multiply(z, z, out=at.squared)
        np.add.reduce(at.terms, axis=1, out=self._parts.moments)
        self._parts.rows[0] = n
        return self._sums

    def _multiply(self, at: _Views) -> None:
        """Set the products of the pairs, and count the rows that have both values."""
        at.values.take(self._members, 1, at.members, "clip")
        np.multiply(at.first, at.second, out=at.products)
        if self._is_nullable:
            first, second = np.split(at.present.take(self._members, 1), 2, axis=1)
            np.add.reduce(first & second, axis=0, out=self._parts.both)

    def _view(self, n: int) -> _Views:
        """Create and return the memory for n rows."""
        values, is_reached, terms = self._values[:n], self._is_reached[:n], self._terms[:, :n]
        columns, members = self._edges.shape[1], self._of_members[:n]
        reached = is_reached.view(np.uint8)
        self._views[n] = _Views(
            values=values,
            features=values[:, : self._features],
            outputs=[
                *(values[:, at : at + 1] for at in range(self._features, self._last)),
                values[:, self._last : columns],
            ],
            products=values[:, columns:],
            comparable=values[:, None, :columns],
            least=self._least[:n],
            most=self._most[:n],
            mean=self._mean[:n],
            per_sigma=self._per_sigma[:n],
            is_reached=is_reached,
            reached=reached,
            present=reached[:, 0, : self._features],
            members=members,
            first=members[:, : self._pairs],
            second=members[:, self._pairs :],
            terms=terms,
            positive=terms[0],
            negative=terms[1],
            squared=terms[2],
        )
        return self._views[n]

    def _split(self, vector: NDArray[Any]) -> _Parts:
        reached, moments, both, rows, zero = np.split(vector, np.cumsum(self._sizes))
        return _Parts(
            reached.reshape(self._edges.shape), moments.reshape(3, self._columns), both, rows, zero
        )


def _members(references: Sequence[Reference], pairs: Sequence[Pair]) -> NDArray[np.intp]:
    """Return the columns of the first features of all pairs, then of the second ones."""
    column = {each.name: index for index, each in enumerate(references)}
    return np.array([column[pair.features[side]] for side in (0, 1) for pair in pairs], np.intp)


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
                "Rows in each reference bin of each feature, of the prediction and of the score.",
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
            if not each.is_categorical:
                layout.counter(*family, {**labels, "feature": each.name, **own})
                yield more[signal], less[signal]


def _declare_pairs(
    pairs: Sequence[Pair], at: _Parts, layout: Layout, labels: Labels
) -> Iterator[tuple[int, int]]:
    """Declare the counters of the pairs; yield the same for them."""
    positive, negative, _ = at.moments[:, at.moments.shape[1] - len(pairs) :]
    both = at.both if len(at.both) else np.broadcast_to(at.rows, len(pairs))
    for pair, *sums, rows in zip(pairs, positive, negative, both, strict=True):
        own = {**labels, "pair": pair.name}
        layout.counter("model_feature_pair", "Rows that have both values of a pair.", own)
        yield rows, at.zero[0]
        for sign, index in zip(("pos", "neg"), sums, strict=True):
            layout.counter(
                "model_feature_pair_zscore_sum",
                "Sum of |z·z| of a pair's features by sign of the product; positive minus negative,"
                " per row, is the correlation if neither mean nor variance has moved.",
                {**own, "sign": sign},
            )
            yield index, at.zero[0]


def _value_differences(signals: int, bounds: int, at: _Parts) -> Iterator[tuple[int, int]]:
    """Yield the same for the histogram: its buckets, which are not cumulative, and its sum."""
    above = at.reached[:, signals:].ravel(order="F")[:bounds]
    yield from pairwise([at.rows[0], *above, at.zero[0]])
    positive, negative, _ = at.moments[:, signals]
    yield positive, negative


def _repeated(row: Floats) -> Floats:
    return np.tile(row, (_ROWS, 1))


def _scale(reference: Reference) -> tuple[float, float]:
    """Return mean and sigma; codes have none, and their z is not used."""
    return (0.0, 1.0) if reference.is_categorical else (reference.mean, reference.sigma)


def _is_nullable(reference: Reference) -> bool:
    return reference.bins[-1].bin == MISSING
