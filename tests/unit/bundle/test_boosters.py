"""Boosting libraries: their own booster predicts, with the bits of their scikit-learn classes."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bundle.boosters import LightGBM, XGBoost
from bundle.build import build_bundle, bundle_fitted
from bundle.encode import Cell, Encoder
from bundle.frames import cells
from bundle.load import Bundle, BundleError, load_bundle
from bundle.manifest import PROGRAM_FILE
from bundle.program import Program
from tests.support.bundles import edit_manifest
from tests.support.libraries import library
from tests.support.tables import TARGET, mixed, recipe, regression

LIBRARIES = ("xgboost", "lightgbm")
CORES = {"xgboost": XGBoost, "lightgbm": LightGBM}


def make(name: str, kind: str, **parameters: Any) -> Any:  # noqa: ANN401
    """Return an unfitted estimator of a library, of few trees."""
    module = library(name)
    if name == "xgboost":
        return getattr(module, f"XGB{kind}")(n_estimators=9, enable_categorical=True, **parameters)
    if name == "lightgbm":
        return getattr(module, f"LGBM{kind}")(n_estimators=9, verbose=-1, **parameters)
    return getattr(module, f"CatBoost{kind}")(
        iterations=9, verbose=False, allow_writing_files=False, **parameters
    )


def eaten(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the features as the libraries take them: text as pandas categories."""
    found = frame.drop(columns=TARGET)
    return found.astype({name: "category" for name in found.columns if str(name).startswith("c")})


def fit(estimator: Any, frame: pd.DataFrame) -> Any:  # noqa: ANN401
    """Return an estimator fitted to a table; classes are 0, 1, … to XGBoost."""
    return estimator.fit(eaten(frame), frame[TARGET])


def table(kind: str, classes: int = 2, missing: float = 0.2) -> pd.DataFrame:
    """Return a table with numbers, categories, gaps, and a number or classes as its target."""
    if kind == "Regressor":
        return regression(400, missing=missing)
    frame = mixed(400, classes=classes, missing=missing)
    return frame.assign(**{TARGET: frame[TARGET].astype("category").cat.codes.astype(int)})


def bundled(estimator: Any, frame: pd.DataFrame, output: Path) -> Bundle:  # noqa: ANN401
    """Return the bundle of a fitted estimator, after a round over the disk."""
    bundle_fitted(estimator, frame, None, recipe(frame), output, accept_in_sample=True)
    return load_bundle(output)


def outputs(bundle: Bundle, rows: list[tuple[Cell, ...]]) -> Any:  # noqa: ANN401
    """Return the outputs of rows as a client sends them."""
    return bundle.model.predict(rows, Encoder(bundle.manifest.features).codes(rows))


def expected(estimator: Any, given: Any) -> Any:  # noqa: ANN401
    """Return the library's own outputs."""
    method = getattr(estimator, "predict_proba", estimator.predict)
    return np.asarray(method(given), dtype=np.float64)


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize(
    ("kind", "classes"), [("Regressor", 0), ("Classifier", 2), ("Classifier", 3)]
)
def test_one_row_or_many_have_the_librarys_bits(
    name: str, kind: str, classes: int, tmp_path: Path
) -> None:
    """With categories and missing values, and without what its scikit-learn class needs."""
    frame = table(kind, classes)
    fitted = fit(make(name, kind), frame)
    bundle = bundled(fitted, frame, tmp_path / "bundle")
    rows = cells(frame, bundle.manifest.features)

    program = Program.load(tmp_path / "bundle" / PROGRAM_FILE)
    assert isinstance(program.core, CORES[name])
    np.testing.assert_array_equal(outputs(bundle, rows), expected(fitted, eaten(frame)))
    for at in range(40):
        alone = outputs(bundle, rows[at : at + 1])
        np.testing.assert_array_equal(alone, expected(fitted, eaten(frame)[at : at + 1]))


def test_unseen_categories_are_missing_to_lightgbm(tmp_path: Path) -> None:
    """A category that training did not see is sent as it is, and has the library's bits."""
    frame = table("Regressor")
    fitted = fit(make("lightgbm", "Regressor"), frame)
    bundle = bundled(fitted, frame, tmp_path / "bundle")
    unseen = frame.assign(c0="never", c1=None)
    given = eaten(unseen)

    rows = cells(unseen, bundle.manifest.features)
    np.testing.assert_array_equal(outputs(bundle, rows), expected(fitted, given))
    assert PROGRAM_FILE in bundle.manifest.files


@pytest.mark.parametrize("value", ["", "never", "v0x", "zzz"])
def test_unseen_categories_are_rejected_for_xgboost(value: str, tmp_path: Path) -> None:
    """Wherever they are in alphabetical order; a missing one is predicted."""
    frame = table("Regressor")
    fitted = fit(make("xgboost", "Regressor"), frame)
    bundle = bundled(fitted, frame, tmp_path / "bundle")
    row = cells(frame, bundle.manifest.features)[0]

    with pytest.raises(ValueError, match="a category that the estimator does not know"):
        outputs(bundle, [(*row[:3], value, *row[4:])])
    assert np.isfinite(outputs(bundle, [(*row[:3], None, *row[4:])])).all()


@pytest.mark.parametrize("name", LIBRARIES)
@pytest.mark.parametrize("sparse", [True, False])
def test_known_preprocessing_is_compiled_with_it(name: str, sparse: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """In a Pipeline; XGBoost takes the zeros of a sparse matrix as missing, and so does this."""
    frame = table("Classifier", missing=0)
    # Zeros, also among the numbers.
    frame["n1"] = frame["n1"].round()
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=sparse)
    columns = make_column_transformer(
        (StandardScaler(with_mean=False), ["n0", "n1", "n2"]),
        (encoder, ["c0", "c1"]),
        sparse_threshold=float(sparse),
    )
    fitted = make_pipeline(columns, make(name, "Classifier"))
    fitted.fit(frame.drop(columns=TARGET), frame[TARGET])
    bundle = bundled(fitted, frame, tmp_path / "bundle")

    assert PROGRAM_FILE in bundle.manifest.files
    found = outputs(bundle, cells(frame, bundle.manifest.features))
    np.testing.assert_array_equal(found, expected(fitted, frame.drop(columns=TARGET)))


@pytest.mark.parametrize("name", LIBRARIES)
def test_early_stopping_leaves_its_best_trees(name: str, tmp_path: Path) -> None:
    """The trees after the best one are in the file, but do not count."""
    frame = regression(400).drop(columns=["c0", "c1"])
    noise = frame.assign(**{TARGET: np.random.default_rng(3).normal(size=400)})
    train, test = noise[:300], noise[300:]
    options: dict[str, Any] = {"early_stopping_rounds": 3} if name == "xgboost" else {}
    estimator = make(name, "Regressor", **options).set_params(n_estimators=60)
    if name == "lightgbm":
        options = {"callbacks": [library(name).early_stopping(3, verbose=False)]}
    else:
        options = {"verbose": False}
    x, y = test.drop(columns=TARGET), test[TARGET]
    options |= {"eval_set": [(x, y)]} if name == "xgboost" else {"eval_X": x, "eval_y": y}
    estimator.fit(train.drop(columns=TARGET), train[TARGET], **options)
    bundle = bundled(estimator, train, tmp_path / "bundle")

    assert PROGRAM_FILE in bundle.manifest.files
    found = outputs(bundle, cells(test, bundle.manifest.features))
    np.testing.assert_array_equal(found, estimator.predict(x))


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_matrix_is_eaten_as_well(name: str, tmp_path: Path) -> None:
    """An estimator that was fitted to numbers without names."""
    frame = regression(300)[["n0", "n1", "n2", TARGET]]
    rows = frame.drop(columns=TARGET).to_numpy()
    fitted = make(name, "Regressor").fit(rows, frame[TARGET])
    bundle = bundled(fitted, frame, tmp_path / "bundle")

    assert PROGRAM_FILE in bundle.manifest.files
    found = bundle.model.predict(rows.tolist(), rows)
    np.testing.assert_array_equal(found, np.asarray(fitted.predict(rows), np.float64))


def test_a_booster_that_is_not_of_trees_predicts_itself(tmp_path: Path) -> None:
    """`gblinear` has no in-place prediction."""
    frame = regression(300, missing=0)[["n0", "n1", "n2", TARGET]]
    fitted = make("xgboost", "Regressor", booster="gblinear")
    fitted.fit(frame.drop(columns=TARGET), frame[TARGET])
    bundle = bundled(fitted, frame, tmp_path / "bundle")

    assert PROGRAM_FILE not in bundle.manifest.files
    rows = cells(frame, bundle.manifest.features)
    np.testing.assert_allclose(outputs(bundle, rows), fitted.predict(frame.drop(columns=TARGET)))


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_unfitted_one_is_trained(name: str, tmp_path: Path) -> None:
    """Cross-validated and fitted, on text as pandas categories."""
    frame = table("Classifier")
    built = build_bundle(make(name, "Classifier"), frame, None, recipe(frame), tmp_path / "bundle")

    assert built.input.dtypes["c0"] == "category"
    assert PROGRAM_FILE in built.files


@pytest.mark.parametrize("name", LIBRARIES)
def test_another_version_of_the_library_is_warned_of(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The warning names both, although the booster is no pickle; other libraries do not matter."""
    frame = table("Regressor")
    bundle = bundled(fit(make(name, "Regressor"), frame), frame, tmp_path / "bundle")
    used = bundle.manifest.libraries
    assert used[name] == library(name).__version__

    edit_manifest(tmp_path / "bundle", libraries=used | {name: "0.1", "scikit-learn": "0.2"})
    with caplog.at_level(logging.WARNING):
        load_bundle(tmp_path / "bundle")

    assert caplog.messages == [
        f"the bundle was built with {name} 0.1, and {used[name]} is installed"
    ]


@pytest.mark.parametrize("name", LIBRARIES)
def test_a_missing_library_is_named_with_the_command_that_installs_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, for the image and for a machine without containers."""
    frame = table("Regressor")
    bundled(fit(make(name, "Regressor"), frame), frame, tmp_path / "bundle")
    monkeypatch.setitem(sys.modules, name, None)

    with pytest.raises(BundleError) as failed:
        load_bundle(tmp_path / "bundle")

    assert f"{name} is not installed: set MODEL_LIBRARIES={name}" in str(failed.value)
    assert f"./task deps:model:{name}" in str(failed.value)


def test_the_files_of_two_builds_are_equal(tmp_path: Path) -> None:
    """The same estimator gives the same bytes of bundle.json."""
    frame = table("Regressor")
    fitted = fit(make("xgboost", "Regressor"), frame)
    for name in ("one", "two"):
        bundled(fitted, frame, tmp_path / name)

    one, two = ((tmp_path / name / "bundle.json").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.mark.parametrize("kind", ["Regressor", "Classifier"])
def test_catboost_predicts_itself_on_one_thread(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its own categories, and the rows that it rejects as a ValueError."""
    frame = table(kind, missing=0)
    frame["n0"] = frame["n0"].mask(frame["n1"] > 1)
    fitted = make("catboost", kind, cat_features=["c0", "c1"])
    given = frame.drop(columns=TARGET)
    fitted.fit(given, frame[TARGET])
    wanted = expected(fitted, given)
    threads = _watch_threads(fitted, monkeypatch)
    bundle = bundled(fitted, frame, tmp_path / "bundle")
    rows = cells(frame, bundle.manifest.features)
    threads.clear()

    np.testing.assert_array_equal(outputs(bundle, rows), wanted)
    assert bundle.manifest.libraries["catboost"] == library("catboost").__version__
    assert bundle.manifest.task == ("regression" if kind == "Regressor" else "classification")
    assert threads
    assert {*threads} == {1}
    with pytest.raises(ValueError, match=r"c0|cat"):
        outputs(bundle, [(*rows[0][:3], None, *rows[0][4:])])


def _watch_threads(fitted: Any, monkeypatch: pytest.MonkeyPatch) -> list[int]:  # noqa: ANN401
    """Return the list of the thread counts that predictions are asked for from now on."""
    threads: list[int] = []
    name = "predict_proba" if hasattr(fitted, "predict_proba") else "predict"
    method = getattr(type(fitted), name)

    def predict(self: Any, given: Any, *rest: Any, thread_count: int = -1, **more: Any) -> Any:  # noqa: ANN401
        threads.append(thread_count)
        return method(self, given, *rest, thread_count=thread_count, **more)

    monkeypatch.setattr(type(fitted), name, predict)
    return threads
