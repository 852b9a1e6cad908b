"""`./task model` takes skops files and MLflow directories, and installs what they need."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.svm import SVR

from bundle.encode import Encoder
from bundle.frames import cells
from bundle.load import BundleError, load_bundle
from tests.support.bundles import edit_manifest
from tests.support.libraries import library
from tests.support.tables import TARGET, mixed, regression, write
from tools import environment
from tools.model import __main__ as command
from tools.model import libraries
from tools.model.errors import ModelError

NUMBERS = ["n0", "n1", "n2"]


class Calls:
    """Runs the command with the tables of one directory."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys
        self.output = directory / "bundle"

    def run(self, estimator: str, frame: pd.DataFrame, *options: str) -> tuple[int, str]:
        """Return the status and what is printed."""
        write(frame, self.directory / "train.csv")
        arguments = [
            *("--estimator", str(self.directory / estimator), "--target", TARGET),
            *("--data", str(self.directory / "train.csv"), "--output", str(self.output)),
        ]
        self._capsys.readouterr()
        status = command.main([*arguments, "--accept-in-sample", *options])
        return status, "".join(self._capsys.readouterr())

    def build(self, estimator: str, frame: pd.DataFrame, *options: str) -> str:
        """Run the command, which must succeed, and return what is printed."""
        status, printed = self.run(estimator, frame, *options)
        assert status == 0, printed
        return printed

    def failure(self, estimator: str, frame: pd.DataFrame, *options: str) -> str:
        """Run the command, which must fail and write nothing; return its one line."""
        status, printed = self.run(estimator, frame, *options)
        assert status == 1
        assert not self.output.exists()
        line = printed.splitlines()[-1]
        assert line.startswith("model: ")
        return line

    def outputs(self, frame: pd.DataFrame) -> Any:  # noqa: ANN401
        """Return what the bundle answers to rows as a client sends them."""
        bundle = load_bundle(self.output)
        rows = cells(frame, bundle.manifest.features)
        return bundle.model.predict(rows, Encoder(bundle.manifest.features).codes(rows))


@pytest.fixture(name="calls")
def _calls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Calls:
    return Calls(tmp_path, capsys)


def numeric() -> pd.DataFrame:
    """Return a table of three numbers and a number as its target."""
    return regression(300, missing=0)[[*NUMBERS, TARGET]]


class Doubling(LinearRegression):  # type: ignore[misc]
    """A class that is nobody's but this test's."""


def save_skops(estimator: Any, path: Path) -> None:  # noqa: ANN401
    """Write a skops file."""
    library("skops.io").dump(estimator, path)


def test_a_skops_file_is_served_without_unpickling(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle has the very file, and no pickle."""
    frame = numeric()
    fitted = SVR().fit(frame[NUMBERS], frame[TARGET])
    save_skops(fitted, calls.directory / "my.skops")
    printed = calls.build("my.skops", frame)

    assert "Loaded without unpickling; types that are trusted: none but skops' own" in printed
    assert not (calls.output / "model.joblib").exists()
    served = (calls.output / "model.skops").read_bytes()
    assert served == (calls.directory / "my.skops").read_bytes()
    monkeypatch.setattr(joblib, "load", lambda _: pytest.fail("unpickled"))
    np.testing.assert_array_equal(calls.outputs(frame), fitted.predict(frame[NUMBERS]))


@pytest.mark.parametrize("name", ["xgboost", "lightgbm"])
def test_known_types_of_libraries_are_trusted_and_listed(name: str, calls: Calls) -> None:
    """In the output and in the bundle."""
    frame = numeric()
    module = library(name)
    made = module.XGBRegressor if name == "xgboost" else module.LGBMRegressor
    fitted = made(n_estimators=3).fit(frame[NUMBERS], frame[TARGET])
    save_skops(fitted, calls.directory / "my.skops")
    printed = calls.build("my.skops", frame)
    manifest = load_bundle(calls.output).manifest

    assert f"{name}.sklearn.{made.__name__}" in manifest.trusted
    assert all(each in printed for each in manifest.trusted)
    assert {"skops", name} <= manifest.libraries.keys()
    np.testing.assert_array_equal(
        calls.outputs(frame), np.asarray(fitted.predict(frame[NUMBERS]), np.float64)
    )


def test_unknown_types_are_named_and_can_be_trusted(calls: Calls) -> None:
    """Nothing of the file is loaded before."""
    frame = numeric()
    fitted = Doubling().fit(frame[NUMBERS], frame[TARGET])
    save_skops(fitted, calls.directory / "my.skops")
    name = f"{Doubling.__module__}.Doubling"

    line = calls.failure("my.skops", frame)
    assert f"types that are not trusted: {name}" in line
    assert f"add --trust {name}" in line

    calls.build("my.skops", frame, "--trust", name)
    np.testing.assert_allclose(calls.outputs(frame), fitted.predict(frame[NUMBERS]))
    # The service trusts what the bundle says, and nothing else.
    edit_manifest(calls.output, trusted=[])
    with pytest.raises(BundleError, match=r"model\.skops does not load: .*Doubling"):
        load_bundle(calls.output)


def test_a_skops_file_is_taken_as_it_is(calls: Calls) -> None:
    """--train would write another one."""
    frame = numeric()
    save_skops(LinearRegression(), calls.directory / "my.skops")

    assert "with --train, give the unfitted estimator as a pickle" in calls.failure(
        "my.skops", frame, "--train"
    )


def save_mlflow(flavor: str, estimator: Any, path: Path, **options: Any) -> None:  # noqa: ANN401
    """Let MLflow save a model's directory, as `log_model` does."""
    module = library(f"mlflow.{flavor}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        given = {"python_model": estimator} if flavor == "pyfunc" else {}
        # Without requirements MLflow looks for them, for ten seconds.
        module.save_model(
            *([] if given else [estimator]), path=path, pip_requirements=[], **given, **options
        )


def signature(frame: pd.DataFrame, answers: Any) -> Any:  # noqa: ANN401
    """Return what MLflow infers from an input and an output."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return library("mlflow.models").infer_signature(frame, answers)


@pytest.mark.parametrize("form", ["skops", "cloudpickle", "pickle"])
def test_mlflows_scikit_learn_flavor_is_loaded_without_mlflow(
    form: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Types are those of the signature: a number that training saw without fractions stays one."""
    frame = mixed(300, missing=0)
    frame["n1"] = frame["n1"].round()
    x = frame.drop(columns=TARGET)
    columns = make_column_transformer((OneHotEncoder(), ["c0", "c1"]), remainder="passthrough")
    fitted = make_pipeline(columns, LogisticRegression(max_iter=500)).fit(x, frame[TARGET])
    given = signature(x, frame[TARGET])
    save_mlflow(
        "sklearn", fitted, calls.directory / "m", serialization_format=form, signature=given
    )
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as where there is none
    calls.build("m", frame)
    manifest = load_bundle(calls.output).manifest

    assert "mlflow" not in manifest.libraries
    assert (calls.output / "model.skops").exists() == (form == "skops")
    assert {each.name: each.type for each in manifest.features}["n1"] == "number"
    np.testing.assert_allclose(calls.outputs(frame), fitted.predict_proba(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("flavor", "kind"),
    [("xgboost", "XGBRegressor"), ("lightgbm", "LGBMRegressor"), ("catboost", "CatBoostRegressor")],
)
def test_mlflows_boosting_flavors_are_loaded_without_mlflow(
    flavor: str, kind: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the names that the library keeps."""
    frame = numeric()
    options = {"verbose": False, "allow_writing_files": False} if flavor == "catboost" else {}
    fitted = getattr(library(flavor), kind)(n_estimators=3, **options)
    fitted.fit(frame[NUMBERS], frame[TARGET])
    save_mlflow(
        flavor, fitted, calls.directory / "m", signature=signature(frame[NUMBERS], frame[TARGET])
    )
    monkeypatch.setitem(sys.modules, "mlflow", None)  # as where there is none
    calls.build("m", frame[[*NUMBERS[::-1], TARGET]])

    assert [each.name for each in load_bundle(calls.output).manifest.features] == NUMBERS
    assert "mlflow" not in load_bundle(calls.output).manifest.libraries
    np.testing.assert_array_equal(
        calls.outputs(frame), np.asarray(fitted.predict(frame[NUMBERS]), np.float64)
    )


def python_model(answer: Callable[[pd.DataFrame], Any]) -> Any:  # noqa: ANN401
    """Return a model that only MLflow can load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's advice to add types

        class Model(library("mlflow.pyfunc").PythonModel):  # type: ignore[misc]
            def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> Any:  # noqa: ANN401, ARG002
                return answer(model_input)

    return Model()


def test_a_python_function_is_loaded_by_mlflow(calls: Calls) -> None:
    """The bundle names MLflow, and holds the directory in its pickle."""
    frame = numeric()
    model = python_model(lambda rows: rows["n0"].to_numpy() * 2)
    save_mlflow(
        "pyfunc",
        model,
        calls.directory / "m",
        signature=signature(frame[NUMBERS], frame[TARGET]),
    )
    calls.build("m", frame)

    assert "mlflow" in load_bundle(calls.output).manifest.libraries
    np.testing.assert_array_equal(calls.outputs(frame), frame["n0"] * 2)


def test_a_python_function_may_answer_classes(calls: Calls) -> None:
    """Its signature says so; the target says which."""
    frame = mixed(300, missing=0)[[*NUMBERS, TARGET]]
    model = python_model(lambda rows: np.where(rows["n0"] > 0, "some", "no").astype(object))
    save_mlflow(
        "pyfunc", model, calls.directory / "m", signature=signature(frame[NUMBERS], frame[TARGET])
    )
    calls.build("m", frame)
    manifest = load_bundle(calls.output).manifest

    assert (manifest.classes, manifest.probabilities) == (("no", "some"), False)
    np.testing.assert_array_equal(calls.outputs(frame), (frame["n0"] > 0).astype(float))


def test_columns_that_are_not_required_may_be_missing(calls: Calls, tmp_path: Path) -> None:
    """Although the training rows have no gaps."""
    frame = numeric()
    fitted = LinearRegression().fit(frame[NUMBERS].to_numpy(), frame[TARGET])
    (tmp_path / "m").mkdir()
    joblib.dump(fitted, tmp_path / "m" / "model.pkl")
    columns = [{"type": "double", "name": name, "required": name != "n1"} for name in NUMBERS[::-1]]
    flavors = {"sklearn": {"pickled_model": "model.pkl"}}
    content = {"flavors": flavors, "signature": {"inputs": json.dumps(columns)}}
    (tmp_path / "m" / "MLmodel").write_text(json.dumps(content))
    calls.build("m", frame)

    features = load_bundle(calls.output).manifest.features
    assert [each.name for each in features] == NUMBERS[::-1]
    assert [each.nullable for each in features] == [False, True, False]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("flavors: [", "is not a model that MLflow saved"),
        ("{}", "is not a model that MLflow saved"),
        ("flavors: {python_function: {}}", "has no signature with named columns"),
        ("flavors: {sklearn: {pickled_model: ../my.pkl}}", "which is outside"),
        ("flavors: {sklearn: {pickled_model: my.pkl}}", "there is no such file"),
    ],
)
def test_a_faulty_directory_is_one_line(content: str, reason: str, calls: Calls) -> None:
    """With the reason."""
    (calls.directory / "m").mkdir()
    (calls.directory / "m" / "MLmodel").write_text(content)

    assert reason in calls.failure("m", numeric())


def _without_xgboost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide XGBoost, as on a machine that has none."""
    for name in [each for each in sys.modules if each.partition(".")[0] == "xgboost"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "xgboost", None)


def test_a_library_is_installed_when_an_estimator_needs_it(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its lock, and then the estimator loads."""
    frame = numeric()
    fitted = library("xgboost").XGBRegressor(n_estimators=3).fit(frame[NUMBERS], frame[TARGET])
    joblib.dump(fitted, calls.directory / "my.joblib")
    _without_xgboost(monkeypatch)
    locks: list[str] = []

    def install(*names: str) -> None:
        locks.extend(names)
        monkeypatch.undo()

    monkeypatch.setattr(libraries, "install", install)
    calls.build("my.joblib", frame)

    assert locks == ["services/model/requirements-xgboost.txt"]


def test_a_library_that_cannot_be_installed_is_named_with_the_command(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offline, for instance."""
    frame = numeric()
    fitted = library("xgboost").XGBRegressor(n_estimators=3).fit(frame[NUMBERS], frame[TARGET])
    joblib.dump(fitted, calls.directory / "my.joblib")
    _without_xgboost(monkeypatch)

    def install(*_: str) -> None:
        raise environment.InstallError("the package registry does not answer")

    monkeypatch.setattr(libraries, "install", install)
    line = calls.failure("my.joblib", frame)

    assert "xgboost is not installed" in line
    assert "./task deps:model:xgboost (the package registry does not answer)" in line


def test_a_missing_openmp_is_named(tmp_path: Path) -> None:
    """LightGBM's wheel relies on the machine's."""

    def load() -> None:
        raise OSError("libgomp.so.1: cannot open shared object file")

    with pytest.raises(ModelError, match="install the package libgomp1"):
        libraries.with_libraries(tmp_path, load)
