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

Floats = NDArray[np.float64]
Words = NDArray[np.uint32] | NDArray[np.uint64]

# Multiplying the lowest bit by a de Bruijn sequence leaves its number in the upper bits.
DE_BRUIJN = {32: 0x077CB531, 64: 0x03F79D71B4CB0A89}

# Up to this many rows, the number of NumPy calls is what counts; measured: the lines cross at 16.
_FEW = 16


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
        bits = self.reachable.dtype.itemsize * 8
        word = self.reachable.dtype.type
        self._multiplier = word(DE_BRUIJN[bits])
        self._shift = word(bits - (bits.bit_length() - 1))
        self._first_leaf = np.arange(self.reachable.shape[1]) * bits

    def predict(self, X: Floats) -> Floats:  # noqa: N803 as scikit-learn names it
        """Return the predictions (n,) of rows (n, k), NaN where missing."""
        scaled = (X - self.mean) / self.scale
        exceeded, reachable = (
            (self._exceeded_by_few, self._reachable_by_few)
            if len(X) <= _FEW
            else (self._exceeded_by_many, self._reachable_by_many)
        )
        row = self.first + exceeded(scaled)
        missing = np.isnan(scaled)
        if missing.any():
            row = np.where(missing, self.missing, row)
        left = reachable(row)
        lowest = left & -left
        leaf = ((lowest * self._multiplier) >> self._shift).astype(np.intp)
        values = self.leaves[leaf + self._first_leaf]
        values[:, 0] += self.baseline
        # One after the other, as the estimator adds them: the same bits come out.
        return np.add.accumulate(values, axis=1)[:, -1]

    def _exceeded_by_few(self, scaled: Floats) -> NDArray[np.intp]:
        """Return how many thresholds each value exceeds, in few calls of NumPy."""
        counts: NDArray[np.intp] = (self.thresholds < scaled[:, :, None]).sum(axis=2)
        return counts

    def _exceeded_by_many(self, scaled: Floats) -> NDArray[np.intp]:
        """Return the same, in few operations a row."""
        columns = zip(self.thresholds, scaled.T, strict=True)
        return np.column_stack([column.searchsorted(values) for column, values in columns])

    def _reachable_by_few(self, row: NDArray[np.intp]) -> Words:
        """Return the leaves (n, t) that every feature's table row (n, k) leaves reachable."""
        left: Words = np.bitwise_and.reduce(self.reachable[row], axis=1)
        return left

    def _reachable_by_many(self, row: NDArray[np.intp]) -> Words:
        """Return the same, without holding (n, k, t) words at once."""
        first, *others = row.T
        left: Words = self.reachable.take(first, axis=0)
        for other in others:
            left &= self.reachable.take(other, axis=0)
        return left

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
