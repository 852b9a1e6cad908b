"""Trees of any size as arrays of nodes, descended by all rows and all trees level by level.

It serves what `bundle.trees` cannot: trees of more than 64 leaves, such as a random forest's, whose
tables would take gigabytes. A level costs the same few calls of NumPy for one row or for many.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats

# Rows are predicted in blocks, which bounds the memory for intermediate values.
_BLOCK_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class Nodes:
    """A forest of t trees with n nodes and m outputs.

    The left child of node i is `child[i]`, the right one follows it; a leaf is its own child, and
    its threshold is inf. A value goes right if it exceeds `threshold`; a missing one where
    `is_missing_right`. `values` (n, m) are those of the leaves, `roots` (t,) the first nodes.
    The outputs are the sums of the trees' values and of `baseline` (m,), in the trees' order,
    divided by `divisor`.
    """

    feature: NDArray[np.intp]
    threshold: Floats
    child: NDArray[np.intp]
    is_missing_right: NDArray[np.bool_]
    values: Floats
    roots: NDArray[np.intp]
    depth: int
    baseline: Floats
    divisor: float

    def predict(self, rows: Floats) -> Floats:
        """Return the outputs (n, m) of rows (n, k), NaN where missing."""
        size = max(1, _BLOCK_ELEMENTS // (len(self.roots) * self.values.shape[1]))
        if len(rows) <= size:
            return self._predict(rows)
        starts = range(0, len(rows), size)
        return np.concatenate([self._predict(rows[i : i + size]) for i in starts])

    @cached_property
    def _has_default(self) -> bool:
        return bool(self.is_missing_right.any())

    def _predict(self, rows: Floats) -> Floats:
        count, width = rows.shape
        cells = np.ascontiguousarray(rows).ravel()
        first = np.arange(count) * width
        node = np.repeat(self.roots, count).reshape(-1, count)
        missing = self._has_default and bool(np.isnan(cells).any())
        for _ in range(self.depth):
            place = self.feature.take(node)
            place += first
            value = cells.take(place)
            right = value > self.threshold.take(node)
            if missing:
                right |= np.isnan(value) & self.is_missing_right.take(node)
            node = self.child.take(node)
            node += right
        return self._sum(self.values.take(node, axis=0))

    def _sum(self, values: Floats) -> Floats:
        """Return the outputs (n, m) of the leaves' values (t, n, m)."""
        values[0] += self.baseline
        # In the estimator's order, so that the result has the same bits: NumPy adds the values of
        # several numbers in this order, but those of a single one pairwise.
        single = values[0].size == 1
        total: Floats = values.cumsum(axis=0)[-1] if single else np.add.reduce(values, axis=0)
        if self.divisor != 1:
            total /= self.divisor
        return total
