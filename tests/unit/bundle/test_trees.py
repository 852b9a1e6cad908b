"""Compiled trees predict exactly the estimator's numbers, or are not created."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from bundle.arrays import Floats
from bundle.compile import NotCompilableError, compile_trees
from bundle.trees import TreeTables

SIZES = (1, 2, 3, 7, 8, 9, 16, 17, 500)


def _data(seed: int, *, missing: float = 0.0) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    rows = random.normal(0, [1, 10, 1e-3, 1e6], (500, 4)).round(3)
    target = rows[:, 0] * np.sign(rows[:, 1]) + random.normal(size=500)
    rows[random.random(rows.shape) < missing] = np.nan
    return rows, target


def _assert_equal(estimator: Any, tables: TreeTables, rows: Floats) -> None:  # noqa: ANN401
    for size in SIZES:
        np.testing.assert_array_equal(estimator.predict(rows[:size]), tables.predict(rows[:size]))


@pytest.mark.parametrize("leaves", [2, 3, 31, 32, 33, 64])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_tables_predict_the_same_bits_for_any_number_of_leaves(leaves: int, missing: float) -> None:
    """For 2 to 64 leaves, with and without missing values, alone or in a batch, no bit differs."""
    rows, target = _data(leaves, missing=missing)
    booster = HistGradientBoostingRegressor(
        max_iter=20, max_leaf_nodes=leaves, min_samples_leaf=2, random_state=0
    ).fit(rows, target)

    tables = compile_trees(booster)

    assert tables.reachable.dtype == (np.uint32 if leaves <= 32 else np.uint64)
    _assert_equal(booster, tables, rows)


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "quantile"])
@pytest.mark.parametrize(
    "scaler",
    [StandardScaler(), StandardScaler(with_mean=False), StandardScaler(with_std=False)],
    ids=str,
)
def test_a_scaler_in_front_is_compiled_with_the_trees(loss: str, scaler: StandardScaler) -> None:
    """A StandardScaler is part of the tables, with its mean, its scale or both."""
    rows, target = _data(1)
    booster = HistGradientBoostingRegressor(
        max_iter=10, loss=loss, quantile=0.3 if loss == "quantile" else None, random_state=0
    )
    pipeline = make_pipeline(scaler, booster).fit(rows, target)

    _assert_equal(pipeline, compile_trees(pipeline), rows)


def test_thresholds_and_extreme_values_are_predicted_equally() -> None:
    """Thresholds, their neighbours, huge values, 0, infinities and NaN are predicted equally."""
    rows, target = _data(2)
    booster = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(rows, target)
    tables = compile_trees(booster)
    column = tables.thresholds[0][np.isfinite(tables.thresholds[0])]
    edges = [column, np.nextafter(column, -np.inf), np.nextafter(column, np.inf)]
    edges.append(np.array([1e308, -1e308, 0.0, -0.0, np.nan, np.inf, -np.inf]))
    values = np.concatenate(edges)

    hard = np.column_stack([values, *[np.resize(values, len(values))[::-1]] * 3])

    np.testing.assert_array_equal(booster.predict(hard), tables.predict(hard))


def test_a_constant_target_compiles_to_trees_of_one_leaf() -> None:
    """A tree without splits is compiled to its leaf."""
    rows, _ = _data(3)
    booster = HistGradientBoostingRegressor(max_iter=3).fit(rows, np.full(500, 2.5))

    np.testing.assert_array_equal(compile_trees(booster).predict(rows), np.full(500, 2.5))


def test_loaded_tables_equal_the_saved_tables(tmp_path: Path) -> None:
    """The file holds arrays without pickles, its bytes are repeatable; predictions are equal."""
    rows, target = _data(4)
    tables = compile_trees(HistGradientBoostingRegressor(random_state=0).fit(rows, target))
    path = tmp_path / "trees.npy"
    path.write_bytes(tables.to_bytes())

    np.testing.assert_array_equal(TreeTables.load(path).predict(rows), tables.predict(rows))
    assert TreeTables.load(path).to_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (Ridge(), "not a HistGradientBoostingRegressor"),
        (RandomForestRegressor(3), "not a HistGradientBoostingRegressor"),
        (
            make_pipeline(MinMaxScaler(), HistGradientBoostingRegressor(max_iter=2)),
            "not a HistGradientBoostingRegressor",
        ),
        (
            make_pipeline(StandardScaler(), StandardScaler(), Ridge()),
            "not a HistGradientBoostingRegressor",
        ),
        (
            HistGradientBoostingRegressor(max_leaf_nodes=65, min_samples_leaf=1, max_iter=2),
            "a tree of 65 leaves",
        ),
        (HistGradientBoostingRegressor(loss="poisson", max_iter=2), "loss poisson"),
        (HistGradientBoostingRegressor(categorical_features=[0], max_iter=2), "categorical splits"),
    ],
    ids=[
        "linear",
        "forest",
        "another scaler",
        "two scalers",
        "too many leaves",
        "link function",
        "categories",
    ],
)
def test_an_estimator_that_cannot_be_compiled_is_rejected(estimator: Any, reason: str) -> None:  # noqa: ANN401
    """The error names what the tables cannot represent; such an estimator is served uncompiled."""
    rows, target = _data(5)
    rows[:, 0] = np.arange(500) % 7

    with pytest.raises(NotCompilableError, match=reason):
        compile_trees(estimator.fit(rows, np.abs(target)))


def test_predictions_do_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows have the same predictions for any number of rows per block."""
    rows, target = _data(3, missing=0.1)
    booster = HistGradientBoostingRegressor(max_iter=20, random_state=0).fit(rows, target)
    whole = booster.predict(rows)

    for block in (1, 7, 499, 500):
        tables = compile_trees(booster)
        monkeypatch.setattr(tables, "_block", block)
        np.testing.assert_array_equal(tables.predict(rows), whole)
