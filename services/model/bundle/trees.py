"""A gradient-boosted ensemble compiled to tables, with exactly the predictions of scikit-learn.

Why it exists: most of the time of scikit-learn's `predict` does not depend on the number of rows.
Predicting a single row takes about 1,000 µs with the example's pipeline and 13 µs with the tables;
in a call with 100 rows, each takes 16 µs and 0.4 µs. The service answers 33,982 requests/s with
tables and 14,649 with the estimator (docs/performance.md). A worker that loads only the tables does
not import scikit-learn.

To remove it, delete this module and compile.py, `_compiled` in build.py, and TREES_FILE. It costs
the throughput above; predictions stay the same, because other estimators are served uncompiled.

compile.py relies on attributes of scikit-learn that are not its API: `_predictors`,
`_baseline_prediction`, `_preprocessor` and `_bin_mapper` of HistGradientBoostingRegressor, and
`nodes` of each predictor, an array with the fields `is_leaf`, `value`, `left`, `right`,
`feature_idx`, `num_threshold`, `missing_go_to_left`, `is_categorical` and `bitset_idx`.
tests/unit/bundle/test_scikit_learn.py names those that an upgrade moves.

Method: each leaf of a tree is a bit. For each feature, row r of the table holds, for every tree,
the leaves that are still reachable if the value exceeds exactly r of all thresholds on that
feature. A row of features selects one table row per feature; the lowest bit of their conjunction is
the leaf. This is QuickScorer (Lucchese et al., SIGIR 2015) with its loop over thresholds
precomputed.
"""

from dataclasses import dataclass, fields
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats

Words = NDArray[np.uint32] | NDArray[np.uint64]

# Multiplying the lowest bit by a de Bruijn sequence leaves its number in the upper bits.
DE_BRUIJN = {32: 0x077CB531, 64: 0x03F79D71B4CB0A89}

# Up to this number of rows, one call compares them with all thresholds; for more rows, one binary
# search per feature is faster.
_FEW = 16
# Rows are predicted in blocks, which bounds the memory for intermediate values of a wide model.
_BLOCK_BYTES = 1 << 22


@dataclass
class TreeTables:
    """A compiled ensemble of t trees on k features, with w = 32 or 64 bits per tree.

    `thresholds` (k, m) are ascending and padded with inf. `first` (k,) is the first table row of
    each feature, `missing` (k,) its table row for NaN. `reachable` (rows, t) is the table of words.
    `leaves` (t·w,) holds the leaf of bit b at the position that the de Bruijn sequence gives b.
    `baseline` () is added to the sum of the leaves; `mean` and `scale` (k,) standardize the rows.
    """

    thresholds: Floats
    first: NDArray[np.intp]
    missing: NDArray[np.intp]
    reachable: Words
    leaves: Floats
    baseline: Floats
    mean: Floats
    scale: Floats

    def __post_init__(self) -> None:
        word = self.reachable.dtype.type
        bits = self.reachable.dtype.itemsize * 8
        features, self._trees = len(self.thresholds), self.reachable.shape[1]
        self._multiplier = word(DE_BRUIJN[bits])
        self._shift = word(bits - (bits.bit_length() - 1))
        self._first_leaf = np.arange(self._trees)[:, None] * bits
        # (m, _FEW·k): the thresholds of all features, repeated for each of a few rows.
        self._repeated = np.tile(self.thresholds.T, _FEW)
        self._count = np.min_scalar_type(self.thresholds.shape[1])
        row_bytes = features * self._trees * self.reachable.dtype.itemsize
        self._block = max(1, _BLOCK_BYTES // row_bytes)

    def predict(self, X: Floats) -> Floats:  # noqa: N803 as scikit-learn names it
        """Return the predictions (n,) of rows (n, k), NaN where missing."""
        if len(X) <= self._block:
            return self._predict(X)
        starts = range(0, len(X), self._block)
        return np.concatenate([self._predict(X[i : i + self._block]) for i in starts])

    def _predict(self, rows: Floats) -> Floats:
        scaled = (rows - self.mean) / self.scale
        few = len(rows) <= _FEW
        row = self.first + (self._exceeded_by_few(scaled) if few else self._exceeded(scaled))
        missing = np.isnan(scaled)
        if missing.any():
            row = np.where(missing, self.missing, row)
        left = np.bitwise_and.reduce(self.reachable.take(row.T, axis=0), axis=0)
        leaf = -left
        leaf &= left
        leaf *= self._multiplier
        leaf >>= self._shift
        place = leaf.T.astype(np.intp, order="C")
        place += self._first_leaf
        values = self.leaves.take(place)
        values[0] += self.baseline
        # Trees are added in the estimator's order, so that the result has the same bits. NumPy adds
        # the values of several rows in this order, but those of a single row pairwise.
        total: Floats = np.add.reduce(values, axis=0) if len(rows) > 1 else values.cumsum()[-1:]
        return total

    def _exceeded(self, scaled: Floats) -> NDArray[np.intp]:
        """Return (n, k): for each value, how many thresholds of its feature it exceeds."""
        columns = zip(self.thresholds, scaled.T, strict=True)
        return np.column_stack([column.searchsorted(values) for column, values in columns])

    def _exceeded_by_few(self, scaled: Floats) -> NDArray[np.intp]:
        """Return the same for at most _FEW rows."""
        exceeds = self._repeated[:, : scaled.size] < scaled.ravel()
        counts: NDArray[np.intp] = np.add.reduce(exceeds.view(np.uint8), axis=0, dtype=self._count)
        return counts.reshape(scaled.shape)

    def to_bytes(self) -> bytes:
        """Return the arrays, one after another, in NumPy's format."""
        buffer = BytesIO()
        for each in fields(self):
            np.save(buffer, getattr(self, each.name), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "TreeTables":
        """Return the tables that `to_bytes` wrote; nothing is unpickled."""
        with path.open("rb") as file:
            return cls(*[np.load(file, allow_pickle=False) for _ in fields(cls)])
