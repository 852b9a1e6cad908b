"""Compiled estimators have the outputs of scikit-learn's, or are not created."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
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
from sklearn.impute import SimpleImputer
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    Normalizer,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from bundle.arrays import Floats
from bundle.compile import NotCompilableError, compile_estimator, compile_program
from bundle.encode import Encoder
from bundle.estimator import FrameBuilder
from bundle.frames import cells, dtypes, matrix
from bundle.manifest import Feature, Input
from bundle.program import Linear, Program
from tests.support.tables import TARGET, features, mixed, pipeline, regression

MATRIX = Input()
NUMBERS = [Feature(name=f"x{i}", description="", nullable=True) for i in range(4)]
SIZES = (1, 2, 7, 300)

REGRESSORS = [
    *(LinearRegression(), Ridge(), Lasso(alpha=0.1), ElasticNet(alpha=0.1)),
    *(DecisionTreeRegressor(random_state=0), DecisionTreeRegressor(criterion="absolute_error")),
    *(RandomForestRegressor(7, random_state=0), ExtraTreesRegressor(7, random_state=0)),
    GradientBoostingRegressor(n_estimators=9, random_state=0),
    GradientBoostingRegressor(n_estimators=5, loss="huber", init="zero"),
    GradientBoostingRegressor(n_estimators=5, max_depth=9, random_state=0),
    HistGradientBoostingRegressor(max_iter=9, random_state=0),
    HistGradientBoostingRegressor(max_iter=5, loss="poisson"),
    HistGradientBoostingRegressor(max_iter=5, max_leaf_nodes=120, min_samples_leaf=2),
]
CLASSIFIERS = [
    make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000)),
    DecisionTreeClassifier(random_state=0),
    RandomForestClassifier(7, random_state=0),
    ExtraTreesClassifier(7, random_state=0),
    GradientBoostingClassifier(n_estimators=5, random_state=0),
    HistGradientBoostingClassifier(max_iter=5, random_state=0),
]


def _matrix(classes: int = 0) -> tuple[Floats, Any, pd.DataFrame]:
    """Return rows, a target, and the same rows as a data frame."""
    random = np.random.default_rng(classes)
    rows = random.normal(0, [1, 10, 1e-3, 1e6], (500, 4)).round(3)
    values = rows[:, 0] * np.sign(rows[:, 1]) + random.normal(size=500)
    borders = np.quantile(values, np.arange(1, classes) / max(classes, 1))
    target: Any = np.digitize(values, borders) if classes else np.abs(values)
    return rows, target, pd.DataFrame(rows, columns=[each.name for each in NUMBERS])


def _assert_equal(
    program: Program,
    predict: Callable[[Any], Any],
    rows: Any,  # noqa: ANN401
    codes: Floats,
) -> None:
    """Compare batches of several sizes: bits for trees, 1e-12 for linear models."""
    tolerance = 1e-12 if isinstance(program.core, Linear) else 0
    for size in SIZES:
        expected = predict(rows[:size])
        np.testing.assert_allclose(
            program.predict(codes[:size]), expected, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("estimator", REGRESSORS, ids=lambda each: str(each)[:60])
@pytest.mark.parametrize("scaler", [None, StandardScaler(), MinMaxScaler(clip=True)], ids=str)
def test_regressors_have_equal_predictions(estimator: Any, scaler: Any, tmp_path: Path) -> None:  # noqa: ANN401
    """Alone or behind a scaler, alone or in a batch, and after loading, predictions are equal."""
    rows, target, frame = _matrix()
    fitted = (make_pipeline(scaler, estimator) if scaler else estimator).fit(rows, target)
    program = compile_program(fitted, NUMBERS, MATRIX, frame)
    path = tmp_path / "program.npy"
    path.write_bytes(program.to_bytes())

    _assert_equal(Program.load(path), fitted.predict, rows, rows)
    assert Program.load(path).to_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "estimator", CLASSIFIERS, ids=lambda each: str(each)[:30].replace("\n", "")
)
@pytest.mark.parametrize("classes", [2, 3, 11])
def test_classifiers_have_equal_probabilities(estimator: Any, classes: int) -> None:  # noqa: ANN401
    """For two classes or many, alone or in a batch, no bit of a tree's probability differs."""
    rows, target, frame = _matrix(classes)
    fitted = estimator.fit(rows, target)

    program = compile_program(fitted, NUMBERS, MATRIX, frame)

    _assert_equal(program, fitted.predict_proba, rows, rows)


@pytest.mark.parametrize(
    "estimator",
    [
        RandomForestRegressor(5, random_state=0),
        DecisionTreeRegressor(max_depth=4),
        HistGradientBoostingRegressor(max_iter=5, max_leaf_nodes=120, min_samples_leaf=2),
        make_pipeline(SimpleImputer(strategy="mean"), StandardScaler(), Ridge()),
        make_pipeline(SimpleImputer(strategy="constant", fill_value=-1.0), MinMaxScaler(), Ridge()),
    ],
    ids=lambda each: str(each)[:40].replace("\n", ""),
)
def test_missing_values_are_predicted_equally(estimator: Any) -> None:  # noqa: ANN401
    """Trees send them where training did, imputers fill them."""
    rows, target, _ = _matrix()
    rows = rows.copy()
    rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    frame = pd.DataFrame(rows, columns=[each.name for each in NUMBERS])
    fitted = estimator.fit(rows, target)

    _assert_equal(compile_program(fitted, NUMBERS, MATRIX, frame), fitted.predict, rows, rows)


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize(
    ("estimator", "value"),
    [
        (Ridge(), np.nan),
        (GradientBoostingRegressor(n_estimators=2), np.nan),
        (RandomForestRegressor(2), 1e39),
        (DecisionTreeRegressor(criterion="absolute_error"), 1e39),
    ],
    ids=str,
)
def test_a_value_that_the_estimator_rejects_is_rejected(estimator: Any, value: float) -> None:  # noqa: ANN401
    """A linear model does not know missing values; trees do not know what float32 cannot hold."""
    rows, target, frame = _matrix()
    fitted = estimator.fit(rows, target)
    bad = rows[:3].copy()
    bad[1, 1] = value

    with pytest.raises(ValueError, match=r"NaN|infinity"):
        fitted.predict(bad)
    with pytest.raises(ValueError, match=r"missing|too large"):
        compile_program(fitted, NUMBERS, MATRIX, frame).predict(bad)


ENCODERS = {
    "one-hot": OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "sparse": OneHotEncoder(handle_unknown="ignore"),
    "dropped": OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False),
    "infrequent": OneHotEncoder(
        handle_unknown="infrequent_if_exist", min_frequency=60, sparse_output=False
    ),
    "ordinal": OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "imputed": make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    ),
    "target": TargetEncoder(),
}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
@pytest.mark.parametrize("model", ["linear", "trees"])
def test_encoders_of_categories_are_compiled(encoder: Any, model: str) -> None:  # noqa: ANN401
    """Known, unseen and missing categories have equal probabilities, whatever encodes them."""
    frame = mixed(300)
    numbers, categories = ["n0", "n1", "n2"], ["c0", "c1"]
    columns = make_column_transformer(
        (encoder, categories),
        (make_pipeline(SimpleImputer(), StandardScaler()), numbers),
        remainder="passthrough",
        sparse_threshold=0,
    )
    last = (
        LogisticRegression(max_iter=500)
        if model == "linear"
        else HistGradientBoostingClassifier(max_iter=4, random_state=0)
    )
    steps = [columns, SimpleImputer(), last] if model == "linear" else [columns, last]
    fitted = make_pipeline(*steps).fit(frame.drop(columns=TARGET), frame[TARGET])

    _assert_equal_on_frames(fitted, frame)


def test_native_categories_of_boosted_trees_are_compiled() -> None:
    """A split by a set of categories has equal probabilities, for unseen and missing ones too."""
    frame = mixed(500, categories=3).astype(dict.fromkeys(("c0", "c1", "c2"), "category"))
    booster = HistGradientBoostingClassifier(max_iter=10, min_samples_leaf=3, random_state=0)
    fitted = booster.fit(frame.drop(columns=TARGET), frame[TARGET])

    assert any(each.nodes["is_categorical"].any() for (each,) in fitted._predictors)  # noqa: SLF001
    _assert_equal_on_frames(fitted, frame)


def _assert_equal_on_frames(fitted: Any, frame: pd.DataFrame) -> None:  # noqa: ANN401
    """Compare a table, and the same with unseen and with missing categories."""
    own = features(frame)
    given = Input(kind="frame", dtypes=dtypes(frame.drop(columns=TARGET)))
    program = compile_program(fitted, own, given, frame)
    rows = cells(frame, own)[:300]
    build = FrameBuilder(own, given.dtypes)
    for replacement in (None, "never seen", "missing"):
        changed = [_replaced(row, own, replacement) for row in rows]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Found unknown categories")
            _assert_equal(
                program, fitted.predict_proba, build(changed), Encoder(own).codes(changed)
            )


def _replaced(row: Any, own: list[Feature], replacement: str | None) -> Any:  # noqa: ANN401
    if replacement is None:
        return row
    value = None if replacement == "missing" else replacement
    pairs = zip(row, own, strict=True)
    return tuple(value if each.type == "category" else cell for cell, each in pairs)


def test_a_category_that_the_encoder_rejects_is_rejected() -> None:
    """Where scikit-learn raises ValueError, the compiled form does, and for no other row."""
    frame = mixed(300, missing=0)
    columns = make_column_transformer((OneHotEncoder(sparse_output=False), ["c0", "c1"]))
    fitted = make_pipeline(columns, DecisionTreeClassifier(max_depth=3)).fit(
        frame.drop(columns=TARGET), frame[TARGET]
    )
    own = features(frame)
    given = Input(kind="frame", dtypes=dtypes(frame.drop(columns=TARGET)))
    program = compile_program(fitted, own, given, frame)
    codes = matrix(frame, own)

    _assert_equal(program, fitted.predict_proba, frame.drop(columns=TARGET), codes)
    codes[5, 3] = len(own[3].categories)
    assert own[3].type == "category"
    with pytest.raises(ValueError, match="does not know"):
        program.predict(codes)


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (KNeighborsRegressor(), "KNeighborsRegressor"),
        (GaussianNB(), "GaussianNB"),
        (make_pipeline(PolynomialFeatures(), LinearRegression()), "PolynomialFeatures"),
        (make_pipeline(Normalizer(), Ridge()), "Normalizer"),
        (make_pipeline(SimpleImputer(add_indicator=True), Ridge()), "SimpleImputer that adds"),
        (make_pipeline(OneHotEncoder(), Ridge()), "an encoder of numbers"),
        (
            GradientBoostingRegressor(n_estimators=2, init=LinearRegression()),
            "an initial estimator",
        ),
        (GradientBoostingClassifier(n_estimators=2, loss="exponential"), "loss exponential"),
        (HistGradientBoostingRegressor(max_iter=2, categorical_features=[0]), "of numbers"),
    ],
    ids=lambda value: str(value)[:30].replace("\n", ""),
)
def test_what_cannot_be_compiled_is_named(estimator: Any, reason: str) -> None:  # noqa: ANN401
    """Such an estimator is served uncompiled."""
    rows, target, frame = _matrix(2)
    rows[:, 0] = np.arange(500) % 7

    with pytest.raises(NotCompilableError, match=reason):
        compile_program(estimator.fit(rows, target), NUMBERS, MATRIX, frame)


def test_a_form_with_other_outputs_is_not_used() -> None:
    """If a row of the training data has another output, the estimator itself is served."""
    rows, target, frame = _matrix()
    fitted = RandomForestRegressor(3, random_state=0).fit(rows, target)
    outputs = fitted.predict(rows)

    def compiled(expected: Floats) -> str:
        found = compile_estimator(fitted, NUMBERS, MATRIX, frame, codes=rows, expected=expected)
        return found[0] if found else "not compiled"

    assert compiled(outputs) == "program.npy"
    outputs[-1] = np.nextafter(outputs[-1], np.inf)
    assert compiled(outputs) == "not compiled"


def test_a_regression_on_a_table_is_compiled() -> None:
    """Predictions of a forest behind a ColumnTransformer have the same bits."""
    frame = regression(300)
    given = Input(kind="frame", dtypes=dtypes(frame.drop(columns=TARGET)))
    fitted = pipeline(RandomForestRegressor(5, random_state=0)).fit(
        frame.drop(columns=TARGET), frame[TARGET]
    )
    own = features(frame)

    program = compile_program(fitted, own, given, frame)

    _assert_equal(program, fitted.predict, frame.drop(columns=TARGET), matrix(frame, own))
