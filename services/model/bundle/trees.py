"""A gradient-boosted ensemble compiled to tables: exact, and a few microseconds a row in NumPy.

Every leaf of a tree is a bit. For each feature, the table's row number r holds, for every tree, the
leaves that are still reachable when the value exceeds exactly r of all thresholds on that feature.
A row of features picks one table row each; the lowest bit left after and-ing them is the leaf. This
is QuickScorer (Lucchese et al., SIGIR 2015) with its loop over thresholds done ahead of time.
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

# Up to so many rows all thresholds are compared at once, instead of a search in each feature's:
# that costs a call per feature.
_FEW = 16
# Rows are predicted in blocks, so that a wide model's intermediate values do not fill the memory.
_BLOCK_BYTES = 1 << 22


@dataclass
class TreeTables:
    """A compiled ensemble of t trees on k features, with w = 32 or 64 bits a tree.

    `thresholds` (k, m) ascending, padded with inf; `first` (k,) first table row of each feature;
    `missing` (k,) its table row for NaN; `reachable` (rows, t) words; `leaves` (t·w,) values, the
    leaf of bit b in the place that de Bruijn gives b; `baseline` (); `mean`, `scale` (k,) scaling.
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
        # (m, _FEW·k): what a few rows, one after the other, are compared with.
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
        # Tree after tree, as the estimator adds them: the same bits come out. NumPy's sum of one
        # row's values would be pairwise; of several rows', side by side in memory, it is not.
        total: Floats = np.add.reduce(values, axis=0) if len(rows) > 1 else values.cumsum()[-1:]
        return total

    def _exceeded(self, scaled: Floats) -> NDArray[np.intp]:
        """Return (n, k) how many of its feature's thresholds each value exceeds."""
        columns = zip(self.thresholds, scaled.T, strict=True)
        return np.column_stack([column.searchsorted(values) for column, values in columns])

    def _exceeded_by_few(self, scaled: Floats) -> NDArray[np.intp]:
        """Return the same for few rows."""
        exceeds = self._repeated[:, : scaled.size] < scaled.ravel()
        counts: NDArray[np.intp] = np.add.reduce(exceeds.view(np.uint8), axis=0, dtype=self._count)
        return counts.reshape(scaled.shape)

    def to_bytes(self) -> bytes:
        """Return the arrays, one after the other, in NumPy's format."""
        buffer = BytesIO()
        for each in fields(self):
            np.save(buffer, getattr(self, each.name), allow_pickle=False)
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "TreeTables":
        """Read what `to_bytes` wrote; nothing is unpickled."""
        with path.open("rb") as file:
            return cls(*[np.load(file, allow_pickle=False) for _ in fields(cls)])
