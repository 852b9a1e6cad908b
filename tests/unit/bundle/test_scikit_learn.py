"""The attributes of scikit-learn that the compiler relies on although they are not its API."""

import ast
import inspect
from functools import cache

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from bundle import compile as compiler
from bundle import trees

PRIVATE = {"_predictors", "_baseline_prediction", "_preprocessor", "_bin_mapper"}
PUBLIC = {"n_features_in_", "is_categorical_", "loss"}
NODE_FIELDS = {
    *("is_leaf", "value", "left", "right"),
    *("feature_idx", "num_threshold", "missing_go_to_left", "is_categorical", "bitset_idx"),
}


@cache
def fitted() -> HistGradientBoostingRegressor:
    """Return a regressor with two trees."""
    rows = np.arange(100.0)[:, None]
    return HistGradientBoostingRegressor(max_iter=2).fit(rows, rows[:, 0])


def test_the_compiler_reads_only_the_listed_attributes() -> None:
    """The list is complete: the compiler reads these attributes of the regressor and no others."""
    read = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(compiler)))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "booster"
    }

    assert read == PRIVATE | PUBLIC


def test_the_compiler_reads_only_the_listed_fields_of_a_node() -> None:
    """The list is complete: the compiler reads these fields of the trees' nodes and no others."""
    read = {
        node.slice.value
        for node in ast.walk(ast.parse(inspect.getsource(compiler)))
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }

    assert read == NODE_FIELDS


@pytest.mark.parametrize("name", sorted(PRIVATE | PUBLIC))
def test_the_regressor_has_the_attribute(name: str) -> None:
    """An upgrade of scikit-learn that renames an attribute fails here, by name."""
    assert hasattr(fitted(), name), f"HistGradientBoostingRegressor no longer has {name}"


def test_each_iteration_has_one_tree_with_the_listed_fields() -> None:
    """`_predictors` has one list per iteration, with one tree, whose nodes are a record array."""
    for (predictor,) in fitted()._predictors:  # noqa: SLF001 guards the compiler, which reads it
        missing = NODE_FIELDS - set(predictor.nodes.dtype.names)

        assert not missing, f"the nodes of a tree no longer have {sorted(missing)}"


def test_the_baseline_is_a_single_number() -> None:
    """The sum of the trees starts at `_baseline_prediction`, the mean of this target."""
    baseline = fitted()._baseline_prediction  # noqa: SLF001 guards the compiler, which reads it

    assert baseline.item() == pytest.approx(49.5)


@pytest.mark.parametrize("name", sorted(PRIVATE | NODE_FIELDS | {"nodes"}))
def test_the_module_lists_what_it_relies_on(name: str) -> None:
    """The docstring of bundle.trees lists every attribute that is not scikit-learn's API."""
    assert f"`{name}`" in (trees.__doc__ or "")
