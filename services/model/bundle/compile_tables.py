"""Build the tables of `bundle.trees` and the nodes of `bundle.nodes` from trees of any library."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.compile_columns import NotCompilableError
from bundle.nodes import Nodes
from bundle.trees import DE_BRUIJN, TreeTables, Words

# Tables or nodes of more than this are not worth their memory in every worker.
_MAX_TABLE_BYTES = 1 << 26
_MAX_NODES = 1 << 21


@dataclass(frozen=True)
class Tree:
    """One tree of n nodes, the first of which is its root; a value goes left if it is ≤ threshold.

    `left`, `right`, `feature`, `threshold`, `is_missing_left` are (n,), `value` (n, m).
    """

    is_leaf: NDArray[np.bool_]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    feature: NDArray[np.intp]
    threshold: Floats
    is_missing_left: NDArray[np.bool_]
    value: Floats

    @property
    def leaves(self) -> int:
        """Return the number of leaves."""
        return int(self.is_leaf.sum())


@dataclass(frozen=True)
class _Split:
    """One inner node; `left_leaves` are the leaves (a bit mask) to its left.

    They become unreachable when a value exceeds the threshold.
    """

    feature: int
    threshold: float
    missing_goes_left: bool
    left_leaves: int


class _Numbered:
    """The splits and leaf values of one tree, with its leaves numbered from left to right."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self.leaves: list[float] = []
        self.splits: list[_Split] = []
        self._visit(0)

    def _visit(self, node: int) -> int:
        """Return the mask of the leaves below a node after numbering them."""
        tree = self._tree
        if tree.is_leaf[node]:
            self.leaves.append(float(tree.value[node, 0]))
            return 1 << (len(self.leaves) - 1)
        left = self._visit(int(tree.left[node]))
        right = self._visit(int(tree.right[node]))
        self.splits.append(
            _Split(
                feature=int(tree.feature[node]),
                threshold=float(tree.threshold[node]),
                missing_goes_left=bool(tree.is_missing_left[node]),
                left_leaves=left,
            )
        )
        return left | right


def tables(
    trees: Sequence[Tree],
    features: int,
    baseline: float,
    mean: Floats | None = None,
    scale: Floats | None = None,
) -> TreeTables:
    """Return the tables of trees with one output. Raises NotCompilableError."""
    word = _word(max(tree.leaves for tree in trees))
    numbered = [_Numbered(tree) for tree in trees]
    thresholds, first, missing, reachable = _tables(numbered, features, word)
    return TreeTables(
        thresholds=thresholds,
        first=first,
        missing=missing,
        reachable=reachable,
        leaves=_leaves(numbered, word),
        baseline=np.array(baseline),
        mean=np.zeros(features) if mean is None else mean,
        scale=np.ones(features) if scale is None else scale,
    )


def _word(leaves: int) -> type[np.unsignedinteger[Any]]:
    for word in (np.uint32, np.uint64):
        if leaves <= np.iinfo(word).bits:
            return word
    raise NotCompilableError(f"a tree of {leaves} leaves; the tables hold 64")


def _tables(
    trees: Sequence[_Numbered], features: int, word: type[np.unsignedinteger[Any]]
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp], Words]:
    """Return thresholds (k, m), first and missing rows (k,), and the table (rows, trees)."""
    every = (1 << np.iinfo(word).bits) - 1
    splits: list[list[tuple[int, _Split]]] = [[] for _ in range(features)]
    for number, split in _splits(trees):
        splits[split.feature].append((number, split))
    values = [sorted({split.threshold for _, split in each}) for each in splits]
    size = sum(len(each) + 2 for each in values) * len(trees) * np.iinfo(word).bits // 8
    if size > _MAX_TABLE_BYTES:
        raise NotCompilableError("tables that are too large")
    rows: list[list[int]] = []
    first, missing = [], []
    for own, thresholds in zip(splits, values, strict=True):
        first.append(len(rows))
        for exceeded in (float("-inf"), *thresholds):
            masks = [every] * len(trees)
            for tree, split in own:
                if split.threshold <= exceeded:
                    masks[tree] &= ~split.left_leaves
            rows.append(masks)
        missing.append(len(rows))
        masks = [every] * len(trees)
        for tree, split in own:
            if not split.missing_goes_left:
                masks[tree] &= ~split.left_leaves
        rows.append(masks)
    width = max(1, *map(len, values))
    padded = [[*each, *[np.inf] * (width - len(each))] for each in values]
    return (
        np.array(padded),
        np.array(first, dtype=np.intp),
        np.array(missing, dtype=np.intp),
        np.array(rows, dtype=word),
    )


def _splits(trees: Sequence[_Numbered]) -> Iterator[tuple[int, _Split]]:
    for number, tree in enumerate(trees):
        for split in tree.splits:
            yield number, split


def _leaves(trees: Sequence[_Numbered], word: type[np.unsignedinteger[Any]]) -> Floats:
    """Return every tree's leaf values, each at the position that its bit hashes to."""
    bits = np.iinfo(word).bits
    multiplier, shift = DE_BRUIJN[bits], bits - (bits.bit_length() - 1)
    leaves = np.zeros((len(trees), bits))
    for row, tree in zip(leaves, trees, strict=True):
        for bit, value in enumerate(tree.leaves):
            row[((multiplier << bit) % (1 << bits)) >> shift] = value
    return leaves.ravel()


def nodes(trees: Sequence[Tree], baseline: Floats, divisor: float = 1) -> Nodes:
    """Return trees of any size with m outputs as nodes. Raises NotCompilableError."""
    if sum(len(tree.left) for tree in trees) > _MAX_NODES:
        raise NotCompilableError("more nodes than fit in memory")
    parts = [_breadth_first(tree) for tree in trees]
    roots = np.cumsum([0, *(len(order) for order, _, _ in parts[:-1])])
    joined = zip(trees, parts, roots, strict=True)
    child = np.concatenate([places + root for _, (_, places, _), root in joined])

    def gather(name: str, *, at_leaf: float) -> Any:  # noqa: ANN401
        columns = [
            np.where(tree.is_leaf[order], at_leaf, getattr(tree, name)[order])
            for tree, (order, _, _) in zip(trees, parts, strict=True)
        ]
        return np.concatenate(columns)

    return Nodes(
        feature=gather("feature", at_leaf=0).astype(np.intp),
        threshold=gather("threshold", at_leaf=np.inf),
        child=child.astype(np.intp),
        is_missing_right=gather("is_missing_left", at_leaf=1) == 0,
        values=np.concatenate(
            [tree.value[order] for tree, (order, _, _) in zip(trees, parts, strict=True)]
        ),
        roots=roots.astype(np.intp),
        depth=max(depth for _, _, depth in parts),
        baseline=baseline,
        divisor=divisor,
    )


def _breadth_first(tree: Tree) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Return the nodes in an order with siblings together, each one's child, and the depth.

    A child is the place of the left one in that order, or the node's own place for a leaf.
    """
    levels = [np.array([0], dtype=np.intp)]
    while True:
        inner = levels[-1][~tree.is_leaf[levels[-1]]]
        if not inner.size:
            break
        levels.append(np.column_stack([tree.left[inner], tree.right[inner]]).ravel())
    order = np.concatenate(levels)
    child = np.arange(len(order))
    inner_places = ~tree.is_leaf[order]
    # The children of the inner nodes follow the root in the same order, two for each.
    child[inner_places] = 1 + 2 * np.arange(int(inner_places.sum()))
    return order, child, len(levels) - 1
