"""Compile a fitted scikit-learn estimator, if its kind allows it.

The structure of the trees is not part of scikit-learn's API. `bundle.trees` lists the attributes
that are read here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from bundle.arrays import Floats
from bundle.blocks import in_blocks
from bundle.boosters import Booster, XGBoost
from bundle.compile_boosters import agree, boost, is_exact_alone
from bundle.compile_columns import (
    Column,
    NotCompilableError,
    Source,
    Table,
    assemble,
    encode_categories,
    fold,
)
from bundle.compile_tables import Tree, nodes, tables
from bundle.estimator import FrameBuilder, objects, predictor
from bundle.frames import cells
from bundle.manifest import PROGRAM_FILE, TREES_FILE, Feature, Input
from bundle.program import Boosted, Core, Linear, Program
from bundle.trees import TreeTables

__all__ = ["NotCompilableError", "compile_estimator", "compile_program", "compile_trees"]

_LINEAR = (LinearRegression, Ridge, Lasso, ElasticNet)
_TREES = (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)
_FORESTS = (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
_CLASSIFIERS = (
    DecisionTreeClassifier,
    ExtraTreeClassifier,
    ExtraTreesClassifier,
    RandomForestClassifier,
)
# Losses of boosted regressors, by what they predict of the sum of the trees.
_LOSSES = {
    **dict.fromkeys(("squared_error", "absolute_error", "quantile", "huber"), "value"),
    **dict.fromkeys(("poisson", "gamma"), "exponential"),
}
_LINEAR_TOLERANCE = 1e-12
# Training rows that are sent with unseen and missing categories.
_EXAMPLES = 20


def compile_estimator(  # noqa: PLR0913
    fitted: Any,  # noqa: ANN401
    features: Sequence[Feature],
    given: Input,
    train: pd.DataFrame,
    *,
    codes: Floats,
    expected: Floats,
) -> tuple[str, TreeTables | Program] | None:
    """Return the compiled form and its file's name, if there is one with equal outputs.

    `expected` are its outputs of the training rows, given as `codes` (rows, features) too. Trees
    must have the same bits, linear models must be within 1e-12 of the largest output. Boosters of
    other libraries must have the same bits for one row at a time, too, and for unseen categories.
    """
    try:
        if given.kind == "matrix":
            trees = compile_trees(fitted)
            if np.array_equal(in_blocks(trees.predict, codes), expected):
                return TREES_FILE, trees
    except NotCompilableError:
        pass
    try:
        program = compile_program(fitted, features, given, train)
        outputs = in_blocks(program.predict, codes)
    except (NotCompilableError, ValueError):
        return None
    is_linear = isinstance(program.core, Linear)
    tolerance = _LINEAR_TOLERANCE * float(np.abs(expected).max()) if is_linear else 0.0
    if outputs.shape != expected.shape or not (np.abs(outputs - expected) <= tolerance).all():
        return None
    if isinstance(program.core, Booster):
        source = source_of(features, given, train)
        predict = predictor(fitted, (), probabilities=expected.ndim > 1)
        examples = cells(train.head(_EXAMPLES), features)
        if not is_exact_alone(program.core, program.columns, codes):
            return None
        with_unseen = not isinstance(program.core, XGBoost)
        if not agree(predict, program.predict, source, examples, with_unseen=with_unseen):
            return None
    return PROGRAM_FILE, program


def compile_trees(estimator: Any) -> TreeTables:  # noqa: ANN401
    """Compile a HistGradientBoostingRegressor, alone or behind a StandardScaler.

    The caller must compare the result with the estimator. Raises NotCompilableError.
    """
    scaler, booster = _steps(estimator)
    trees = [_boosted_tree(each.nodes) for (each,) in booster._predictors]  # noqa: SLF001
    return tables(
        trees,
        booster.n_features_in_,
        booster._baseline_prediction.item(),  # noqa: SLF001
        scaler.mean_ if scaler and scaler.with_mean else None,
        scaler.scale_ if scaler and scaler.with_std else None,
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


def compile_program(
    estimator: Any,  # noqa: ANN401
    features: Sequence[Feature],
    given: Input,
    train: pd.DataFrame,
) -> Program:
    """Compile an estimator, alone or behind transformers of its columns.

    The caller must compare the result with the estimator. Raises NotCompilableError.
    """
    *transformers, model = (
        [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    )
    compile_model = _MODELS.get(type(model), _compile_booster)
    source = source_of(features, given, train)
    columns = source.columns()
    for transformer in transformers:
        columns = fold(transformer, columns, source)
    return compile_model(_Context(model, columns, source, transformers))


def source_of(features: Sequence[Feature], given: Input, train: pd.DataFrame) -> Source:
    """Return where an estimator's columns come from."""
    build = FrameBuilder(features, given.dtypes) if given.kind == "frame" else objects
    return Source(features, build, cells(train.head(1), features)[0])


@dataclass(frozen=True)
class _Context:
    """A model, the columns that it eats, where they come from, and what makes them."""

    model: Any
    columns: list[Column]
    source: Source
    transformers: Sequence[Any]


def _compile_linear(context: _Context) -> Program:
    model = context.model
    if np.ndim(model.predict(np.zeros((1, model.n_features_in_)))) != 1:
        raise NotCompilableError("several targets")
    core = Linear(model.coef_.reshape(-1, 1), np.reshape(model.intercept_, -1))
    return Program(assemble(context.columns, rejects="missing"), core, "value")


def _compile_logistic(context: _Context) -> Program:
    model = context.model
    core = Linear(model.coef_.T.copy(), model.intercept_)
    link = "logistic" if len(model.classes_) == 2 else "softmax"  # noqa: PLR2004
    return Program(assemble(context.columns, rejects="missing"), core, link)


def _compile_trees(context: _Context) -> Program:
    model = context.model
    estimators = model.estimators_ if isinstance(model, _FORESTS) else [model]
    if model.n_outputs_ != 1:
        raise NotCompilableError("several targets")
    trees = [_tree(each.tree_) for each in estimators]
    core = nodes(trees, np.zeros(trees[0].value.shape[1]), len(estimators))
    link = "probabilities" if isinstance(model, _CLASSIFIERS) else "value"
    # Whether missing values are accepted depends on the criterion.
    accepts_missing = estimators[0]._support_missing_values(np.zeros((1, 1)))  # noqa: SLF001
    rejects = "infinite" if accepts_missing else "missing"
    return Program(assemble(context.columns, as_float32=True, rejects=rejects), core, link)


def _tree(tree: Any) -> Tree:  # noqa: ANN401 sklearn.tree._tree.Tree
    return Tree(
        is_leaf=tree.children_left < 0,
        left=tree.children_left.astype(np.intp),
        right=tree.children_right.astype(np.intp),
        feature=tree.feature.astype(np.intp),
        threshold=tree.threshold,
        is_missing_left=tree.missing_go_to_left.astype(bool),
        value=tree.value[:, 0, :],
    )


def _compile_gradient_boosting(context: _Context) -> Program:
    model = context.model
    if not (isinstance(model.init_, DummyClassifier | DummyRegressor) or model.init == "zero"):
        raise NotCompilableError("an initial estimator")
    if model.loss == "exponential":
        raise NotCompilableError("loss exponential")
    baseline = model._raw_predict_init(np.zeros((1, model.n_features_in_)))[0]  # noqa: SLF001
    groups = [
        [_scaled(_tree(each.tree_), model.learning_rate) for each in column]
        for column in model.estimators_.T
    ]
    is_classifier = isinstance(model, GradientBoostingClassifier)
    link = "value"
    if is_classifier:
        link = "logistic" if len(groups) == 1 else "softmax"
    columns = assemble(context.columns, as_float32=True, rejects="missing")
    return Program(columns, _boosted(groups, baseline, columns.width, order="C"), link)


def _scaled(tree: Tree, factor: float) -> Tree:
    return Tree(**{**vars(tree), "value": factor * tree.value})


def _compile_hist_gradient_boosting(context: _Context) -> Program:
    booster = context.model
    is_classifier = isinstance(booster, HistGradientBoostingClassifier)
    columns = context.columns
    memberships: _Memberships | None = None
    if booster.is_categorical_ is not None:
        encoder = booster._preprocessor.named_transformers_.encoder  # noqa: SLF001
        mask = booster.is_categorical_
        numbers = [each for each, is_category in zip(columns, mask, strict=True) if not is_category]
        columns = [*encode_categories(encoder, mask, columns, context.source), *numbers]
        memberships = _Memberships(booster, columns)
    groups = [
        [_hist_tree(each, memberships) for each in column]
        for column in zip(*booster._predictors, strict=True)  # noqa: SLF001
    ]
    if memberships is not None:
        columns = [*columns, *memberships.columns]
    link = _LOSSES.get(booster.loss, "")
    if is_classifier:
        link = "logistic" if len(groups) == 1 else "softmax"
    if not link:
        raise NotCompilableError(f"loss {booster.loss}")
    baseline = np.reshape(booster._baseline_prediction, -1)  # noqa: SLF001
    return Program(assemble(columns), _boosted(groups, baseline, len(columns), order="F"), link)


def _compile_booster(context: _Context) -> Program:
    """Compile a booster of another library. Raises NotCompilableError for any other model."""
    columns, core = boost(
        context.model, context.columns, context.source, is_sparse=_makes_sparse(context)
    )
    link = "value"
    if hasattr(context.model, "predict_proba"):
        link = "complement" if len(context.model.classes_) == 2 else "probabilities"  # noqa: PLR2004
    return Program(assemble(columns), core, link)


def _makes_sparse(context: _Context) -> bool:
    """Return whether what the model eats is a sparse matrix."""
    found = context.source.build([context.source.example])
    for transformer in context.transformers:
        found = transformer.transform(found)
    return issparse(found)


def _boosted(groups: Sequence[Sequence[Tree]], baseline: Floats, width: int, *, order: str) -> Core:
    """Return the sum of each group of trees: by tables where they are small enough."""
    pairs = zip(groups, baseline.tolist(), strict=True)
    try:
        return Boosted([tables(trees, width, first) for trees, first in pairs], order)
    except NotCompilableError:
        if len(groups) > 1:
            raise
        return nodes(groups[0], baseline)


def _boosted_tree(found: NDArray[Any]) -> Tree:
    return Tree(
        is_leaf=found["is_leaf"].astype(bool),
        left=found["left"].astype(np.intp),
        right=found["right"].astype(np.intp),
        feature=found["feature_idx"].astype(np.intp),
        threshold=found["num_threshold"],
        is_missing_left=found["missing_go_to_left"].astype(bool),
        value=found["value"][:, None],
    )


def _hist_tree(predictor: Any, memberships: "_Memberships | None") -> Tree:  # noqa: ANN401
    tree = _boosted_tree(predictor.nodes)
    return tree if memberships is None else memberships.replace(tree, predictor)


class _Memberships:
    """Replaces splits by category: a column per set of categories, 1 for those that go right."""

    def __init__(self, booster: Any, columns: Sequence[Column]) -> None:  # noqa: ANN401
        self._sources = columns
        self._known, self._index = booster._bin_mapper.make_known_categories_bitsets()  # noqa: SLF001
        self.columns: list[Table] = []
        self._places: dict[tuple[int, bytes], int] = {}

    def replace(self, tree: Tree, predictor: Any) -> Tree:  # noqa: ANN401
        """Return the tree with numeric splits only."""
        feature, threshold = tree.feature.copy(), tree.threshold.copy()
        found = predictor.nodes
        for node in np.flatnonzero(found["is_categorical"].astype(bool) & ~tree.is_leaf):
            left = predictor.raw_left_cat_bitsets[found["bitset_idx"][node]]
            is_left = bool(tree.is_missing_left[node])
            feature[node] = self._place(int(feature[node]), left, missing_is_left=is_left)
            threshold[node] = 0.5
        return Tree(**{**vars(tree), "feature": feature, "threshold": threshold})

    def _place(self, feature: int, left: NDArray[Any], *, missing_is_left: bool) -> int:
        column = self._sources[feature]
        if not isinstance(column, Table):
            raise NotCompilableError("a category that is a number")
        known = self._known[self._index[feature]]
        goes_left = [_goes_left(value, left, known) for value in column.answers()]
        goes_right = np.array(
            [not (missing_is_left if each is None else each) for each in goes_left],
            dtype=np.float64,
        )
        key = (feature, goes_right.tobytes())
        if key not in self._places:
            self._places[key] = len(self._sources) + len(self.columns)
            self.columns.append(Table(column.source, goes_right, column.is_rejected))
        return self._places[key]


def _goes_left(value: float, left: NDArray[Any], known: NDArray[Any]) -> bool | None:
    """Return whether a category goes left, or None for one that counts as missing."""
    if isnan(value) or value < 0:
        return None
    if _contains(left, int(value)):
        return True
    return False if _contains(known, int(value)) else None


def _contains(bitset: NDArray[Any], value: int) -> bool:
    return bool(int(bitset[value // 32]) >> (value % 32) & 1)


_MODELS: dict[type, Callable[[_Context], Program]] = {
    **dict.fromkeys(_LINEAR, _compile_linear),
    LogisticRegression: _compile_logistic,
    **dict.fromkeys((*_TREES, *_FORESTS), _compile_trees),
    GradientBoostingClassifier: _compile_gradient_boosting,
    GradientBoostingRegressor: _compile_gradient_boosting,
    HistGradientBoostingClassifier: _compile_hist_gradient_boosting,
    HistGradientBoostingRegressor: _compile_hist_gradient_boosting,
}
