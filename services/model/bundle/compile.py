"""Compile a fitted scikit-learn estimator to the tables of `bundle.trees`, if its kind allows it.

The structure of the trees is not part of scikit-learn's API. `bundle.trees` lists the attributes
that are read here.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from bundle.arrays import Floats
from bundle.trees import DE_BRUIJN, TreeTables, Words


class NotCompilableError(Exception):
    """The estimator cannot be compiled and is served uncompiled."""


@dataclass(frozen=True)
class _Split:
    """One inner node; `left_leaves` are the leaves (a bit mask) to its left.

    They become unreachable when a value exceeds the threshold.
    """

    feature: int
    threshold: float
    missing_goes_left: bool
    left_leaves: int


def compile_trees(estimator: Any) -> TreeTables:  # noqa: ANN401
    """Compile a HistGradientBoostingRegressor, alone or behind a StandardScaler.

    The caller must compare the result with the estimator. Raises NotCompilableError.
    """
    scaler, booster = _steps(estimator)
    features = booster.n_features_in_
    trees = [_Tree(predictor.nodes) for (predictor,) in booster._predictors]  # noqa: SLF001
    word = _word(max(len(tree.leaves) for tree in trees))
    thresholds, first, missing, reachable = _tables(trees, features, word)
    return TreeTables(
        thresholds=thresholds,
        first=first,
        missing=missing,
        reachable=reachable,
        leaves=_leaves(trees, word),
        baseline=np.array(booster._baseline_prediction.item()),  # noqa: SLF001
        mean=scaler.mean_ if scaler and scaler.with_mean else np.zeros(features),
        scale=scaler.scale_ if scaler and scaler.with_std else np.ones(features),
    )


def _steps(estimator: Any) -> tuple[StandardScaler | None, HistGradientBoostingRegressor]:  # noqa: ANN401
    steps = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    scaler = steps[0] if type(steps[0]) is StandardScaler else None
    rest = steps[1:] if scaler else steps
    if len(rest) != 1 or type(rest[0]) is not HistGradientBoostingRegressor:
        raise NotCompilableError("not a HistGradientBoostingRegressor")
    booster = rest[0]
    if booster.is_categorical_ is not None:
        raise NotCompilableError("categorical splits")
    if booster.loss not in ("squared_error", "absolute_error", "quantile"):
        raise NotCompilableError(f"loss {booster.loss} predicts through a link function")
    return scaler, booster


class _Tree:
    """The splits and leaf values of one tree, with its leaves numbered from left to right."""

    def __init__(self, nodes: NDArray[Any]) -> None:
        self._nodes = nodes
        self.leaves: list[float] = []
        self.splits: list[_Split] = []
        self._visit(0)

    def _visit(self, index: int) -> int:
        """Return the mask of the leaves below a node after numbering them."""
        node = self._nodes[index]
        if node["is_leaf"]:
            self.leaves.append(float(node["value"]))
            return 1 << (len(self.leaves) - 1)
        left = self._visit(node["left"])
        right = self._visit(node["right"])
        self.splits.append(
            _Split(
                feature=int(node["feature_idx"]),
                threshold=float(node["num_threshold"]),
                missing_goes_left=bool(node["missing_go_to_left"]),
                left_leaves=left,
            )
        )
        return left | right


def _word(leaves: int) -> type[np.unsignedinteger[Any]]:
    for word in (np.uint32, np.uint64):
        if leaves <= np.iinfo(word).bits:
            return word
    raise NotCompilableError(f"a tree of {leaves} leaves; the tables hold 64")


def _tables(
    trees: Sequence[_Tree], features: int, word: type[np.unsignedinteger[Any]]
) -> tuple[Floats, NDArray[np.intp], NDArray[np.intp], Words]:
    """Return thresholds (k, m), first and missing rows (k,), and the table (rows, trees)."""
    every = (1 << np.iinfo(word).bits) - 1
    values = [
        sorted({split.threshold for _, split in _splits(trees, feature)})
        for feature in range(features)
    ]
    rows: list[list[int]] = []
    first, missing = [], []
    for feature, thresholds in enumerate(values):
        first.append(len(rows))
        for exceeded in (float("-inf"), *thresholds):
            masks = [every] * len(trees)
            for tree, split in _splits(trees, feature):
                if split.threshold <= exceeded:
                    masks[tree] &= ~split.left_leaves
            rows.append(masks)
        missing.append(len(rows))
        masks = [every] * len(trees)
        for tree, split in _splits(trees, feature):
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


def _splits(trees: Sequence[_Tree], feature: int) -> Iterator[tuple[int, _Split]]:
    for number, tree in enumerate(trees):
        for split in tree.splits:
            if split.feature == feature:
                yield number, split


def _leaves(trees: Sequence[_Tree], word: type[np.unsignedinteger[Any]]) -> Floats:
    """Return every tree's leaf values, each at the position that its bit hashes to."""
    bits = np.iinfo(word).bits
    multiplier, shift = DE_BRUIJN[bits], bits - (bits.bit_length() - 1)
    leaves = np.zeros((len(trees), bits))
    for row, tree in zip(leaves, trees, strict=True):
        for bit, value in enumerate(tree.leaves):
            row[((multiplier << bit) % (1 << bits)) >> shift] = value
    return leaves.ravel()
