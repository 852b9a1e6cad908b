"""`./task model`: a bundle without code, or one line that says what is wrong and what to do."""

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from bundle.encode import Encoder
from bundle.estimator import wrap
from bundle.frames import cells
from bundle.load import load_bundle, load_manifest
from bundle.manifest import Manifest
from tests.support.tables import TARGET, mixed, pipeline, regression, write
from tools.model.__main__ import main


class Files:
    """The files of one call: an estimator, training rows, held-out rows."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self._capsys = capsys
        self.output = directory / "bundle"
        self.printed = ""

    def save(self, estimator: Any) -> None:  # noqa: ANN401
        """Write the estimator's file."""
        joblib.dump(estimator, self.directory / "my.joblib")

    def table(self, name: str, frame: pd.DataFrame) -> None:
        """Write a table."""
        write(frame, self.directory / name)

    def describe(self, **content: Any) -> None:  # noqa: ANN401
        """Write features.yaml."""
        (self.directory / "features.yaml").write_text(yaml.safe_dump(content))

    def run(self, *options: str, target: str = TARGET, data: str = "train.csv") -> int:
        """Run the command and return its status; keep what it prints."""
        arguments = [
            *("--estimator", str(self.directory / "my.joblib")),
            *("--data", str(self.directory / data)),
            *("--target", target, "--output", str(self.output)),
        ]
        for option, name in (("--held-out", "test.csv"), ("--features", "features.yaml")):
            if (self.directory / name).exists():
                arguments += [option, str(self.directory / name)]
        self._capsys.readouterr()
        status = main([*arguments, *options])
        out, err = self._capsys.readouterr()
        self.printed = out + err
        return status

    def manifest(self, *options: str, target: str = TARGET) -> Manifest:
        """Run the command, which must succeed, and return the manifest."""
        assert self.run(*options, target=target) == 0, self.printed
        return load_manifest(self.output)

    def failure(self, *options: str, **arguments: str) -> str:
        """Run the command, which must fail and write nothing, and return its last line."""
        before = sorted(self.directory.rglob("*"))
        assert self.run(*options, **arguments) == 1, self.printed
        assert sorted(self.directory.rglob("*")) == before
        line = self.printed.splitlines()[-1]
        assert line.startswith("model: ")
        return line


@pytest.fixture(name="files")
def _files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Files:
    """Return the files of a fitted classifier and its tables."""
    files = Files(tmp_path, capsys)
    frame = mixed(450, missing=0)
    train = frame[:350]
    files.table("train.csv", train)
    files.table("test.csv", frame[350:])
    model = pipeline(LogisticRegression(), impute=False)
    files.save(model.fit(train.drop(columns=TARGET), train[TARGET]))
    return files


def test_a_fitted_classifier_becomes_a_bundle(files: Files) -> None:
    """It is served as it is, with types, categories and the promise of the held-out rows."""
    built = files.manifest()
    held_out = pd.read_csv(files.directory / "test.csv")
    fitted = joblib.load(files.directory / "my.joblib")

    accuracy = fitted.score(held_out.drop(columns=TARGET), held_out[TARGET])
    assert built.validation.accuracy == built.validation.cv_accuracy == pytest.approx(accuracy)
    assert (built.validation.cv_folds, built.validation.in_sample) == (0, False)
    assert [each.type for each in built.features] == [
        *("number", "number", "number", "category", "category", "boolean"),
    ]
    assert built.name == "my"
    assert "program.npy" in built.files


def test_the_table_shows_what_was_inferred(files: Files) -> None:
    """Each feature has a line with its type, categories, bins and importance."""
    files.manifest()
    lines = files.printed.splitlines()
    line = next(each for each in lines if each.startswith("c0"))

    assert line.split()[:3] == ["c0", "category", "3:"]
    assert any(each.startswith("feature") and "importance" in each for each in lines)
    assert any("Serve it: MODEL_BUNDLE=" in each for each in lines)
    assert any("alerts watch accuracy" in each for each in lines)


@pytest.mark.parametrize(
    "load", [load_diabetes, load_breast_cancer], ids=lambda each: each.__name__
)
def test_scikit_learns_data_sets_need_no_description(load: Any, files: Files) -> None:  # noqa: ANN401
    """Saved as CSV and joblib, one command makes a bundle that predicts the held-out rows."""
    frame = load(as_frame=True).frame
    train, held_out = frame[::2], frame[1::2]
    x = train.drop(columns="target")
    is_regression = load is load_diabetes
    model = make_pipeline(
        StandardScaler(), LinearRegression() if is_regression else LogisticRegression()
    )
    files.save(model.fit(x.to_numpy(), train["target"]))
    files.table("train.csv", train)
    files.table("test.csv", held_out)
    built = files.manifest(target="target")

    codes = held_out.drop(columns="target").to_numpy()
    outputs = load_bundle(files.output).model.predict(codes.tolist(), codes)
    expected = model.predict(codes) if is_regression else model.predict_proba(codes)
    np.testing.assert_allclose(outputs, expected, rtol=1e-9, atol=1e-12)
    assert built.task == ("regression" if is_regression else "classification")


def test_an_unfitted_estimator_is_trained(files: Files) -> None:
    """--train cross-validates and fits it; the held-out rows are optional."""
    files.save(pipeline(LogisticRegression(), impute=False))
    (files.directory / "test.csv").unlink()
    built = files.manifest("--train")

    assert (built.validation.cv_folds, built.validation.rows) == (5, 350)
    assert built.validation.accuracy == built.validation.cv_accuracy
    assert not built.validation.in_sample
    assert "cross-validating in 5 folds" in files.printed


def test_errors_in_sample_must_be_accepted(files: Files) -> None:
    """Without held-out rows the promise would be too good: the command asks, and marks it."""
    (files.directory / "test.csv").unlink()

    assert "--accept-in-sample" in files.failure()
    built = files.manifest("--accept-in-sample")
    assert built.validation.in_sample
    assert "the real ones are larger" in files.printed


def test_a_description_overrides_what_is_inferred(files: Files) -> None:
    """Names, units, ranges, types, and what happens to unseen categories."""
    files.describe(
        name="somebody",
        headline="auc",
        target={"description": "Whether it is"},
        features={
            "n0": {"unit": "kg", "description": "Mass", "minimum": -10, "maximum": 10},
            "c0": {"unseen": "reject"},
            "flag": {"monitored": False},
        },
    )
    built = files.manifest()
    features = {each.name: each for each in built.features}

    assert (built.name, built.headline, built.target.description) == (
        *("somebody", "auc", "Whether it is"),
    )
    assert (features["n0"].unit, features["n0"].minimum, features["n0"].maximum) == ("kg", -10, 10)
    assert (features["c0"].unseen, features["c1"].unseen) == ("reject", "pass")
    assert "flag" not in [each.name for each in built.reference]


def test_a_first_description_is_written(files: Files) -> None:
    """--describe writes what is inferred, the command accepts it, and no file is replaced."""
    features = str(files.directory / "features.yaml")

    assert files.run("--describe", "--features", features) == 1
    assert "No such file" in files.printed


def test_a_description_can_be_edited(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has each feature with its type, and gives the same bundle when it is not edited."""
    monkeypatch.setenv("USER_WORKING_DIR", str(files.directory))
    plain = files.manifest()

    assert files.run("--describe") == 0, files.printed
    written = yaml.safe_load((files.directory / "features.yaml").read_text("utf-8"))
    assert [*written["features"]] == [each.name for each in plain.features]
    assert written["features"]["c0"]["type"] == "category"
    described = files.manifest()
    assert described.version == plain.version
    assert described.reference == plain.reference
    assert "exists" in files.failure("--describe")


def test_columns_can_be_left_out(files: Files) -> None:
    """What the estimator does not take is left out and named; identifiers do not matter then."""
    frame = pd.read_csv(files.directory / "train.csv")
    files.table("train.csv", frame.assign(id=[f"id{i}" for i in range(len(frame))]))

    assert "id" not in [each.name for each in files.manifest().features]
    assert "left out: id" in files.printed


def test_parquet_is_read(files: Files) -> None:
    """The same rows give the same bundle."""
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    plain = files.manifest()
    pd.read_csv(files.directory / "train.csv").to_parquet(files.directory / "train.parquet")

    assert files.run(data="train.parquet") == 0, files.printed
    assert load_manifest(files.output) == plain


def test_parquet_without_pyarrow_has_a_remedy(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line names the command that installs it."""
    (files.directory / "train.parquet").write_bytes(b"PAR1")

    def fail(_: Path) -> pd.DataFrame:
        raise ImportError

    monkeypatch.setattr("tools.model.data.pd.read_parquet", fail)
    assert "./task deps:parquet" in files.failure(data="train.parquet")


def test_an_index_of_pandas_is_left_out(files: Files) -> None:
    """`to_csv` without index=False writes a first column without a name."""
    plain = files.manifest()
    pd.read_csv(files.directory / "train.csv").to_csv(files.directory / "train.csv")

    assert files.manifest() == plain


def test_a_bundle_is_replaced_as_a_whole(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failure while writing leaves the older bundle as it was, and no other file."""
    plain = files.manifest()
    write_text = Path.write_text

    def fail(path: Path, *arguments: Any, **options: Any) -> int:  # noqa: ANN401
        if path.name == "bundle.json":
            raise OSError(28, "No space left on device", str(path))
        return write_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    assert "No space left on device" in files.failure()
    assert load_manifest(files.output) == plain


def test_other_files_are_not_replaced(files: Files) -> None:
    """A directory that is not a bundle stays as it is."""
    files.output.mkdir()
    (files.output / "thesis.txt").write_text("years of work")

    assert "has other files than a bundle's: choose another --output" in files.failure()


def test_a_link_to_a_bundle_is_replaced(files: Files) -> None:
    """The bundle that it stood for stays."""
    older = files.directory / "older"
    files.manifest()
    files.output.rename(older)
    files.output.symlink_to(older)
    files.save(pipeline(LogisticRegression(C=0.1), impute=False).fit(*_split(files)))
    built = files.manifest()

    assert load_manifest(older).version != built.version


def _split(files: Files) -> tuple[pd.DataFrame, Any]:
    train = pd.read_csv(files.directory / "train.csv")
    return train.drop(columns=TARGET), train[TARGET]


def test_constant_columns_can_be_served_unwatched(files: Files) -> None:
    """Handwritten digits have pixels that are never set: the estimator takes them all the same."""
    frame = load_digits(as_frame=True).frame[:900]
    train, held_out = frame[::2], frame[1::2]
    model = DecisionTreeClassifier(max_depth=9, random_state=0)
    files.save(model.fit(train.drop(columns="target"), train["target"]))
    files.table("train.csv", train)
    files.table("test.csv", held_out)
    constant = [name for name in frame.columns if train[name].min() == train[name].max()]

    assert "set `monitored: false`" in files.failure(target="target")
    files.describe(features={name: {"monitored": False} for name in constant})
    built = files.manifest(target="target")
    assert len(built.features) == 64
    assert len(built.monitored) == 64 - len(constant)
    assert built.classes == (*range(10),)


def test_a_wide_table_with_gaps_becomes_a_bundle(files: Files) -> None:
    """200 features, 30 of them categories, a fifth of all values missing."""
    frame = mixed(500, numbers=169, categories=30, missing=0.2)
    for number in range(30):
        frame[f"c{number}"] = frame[f"c{number}"].where(frame.index % 7 != number % 7, "rare")
    files.save(pipeline(DecisionTreeRegressor(max_depth=3, random_state=0)))
    target = frame["n0"].fillna(0) + np.random.default_rng(9).normal(size=500)
    frame[TARGET] = target
    files.table("train.csv", frame[:350])
    files.table("test.csv", frame[350:])
    built = files.manifest("--train")

    kinds = [each.type for each in built.features]
    assert (len(kinds), kinds.count("category"), kinds.count("boolean")) == (200, 30, 1)
    assert len(built.monitored) == 200
    assert "program.npy" in built.files


Break = Callable[[Files], None]


def _table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Break:
    def apply(files: Files) -> None:
        files.save(pipeline(LogisticRegression(), impute=False))
        for name in ("train.csv", "test.csv"):
            files.table(name, change(pd.read_csv(files.directory / name)))

    return apply


def _pickle(content: bytes) -> Break:
    return lambda files: _write(files.directory / "my.joblib", content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _described(**content: Any) -> Break:  # noqa: ANN401
    return lambda files: files.describe(**content)


def _text(text: str) -> Break:
    return lambda files: _write(files.directory / "features.yaml", text.encode())


def _csv(content: bytes) -> Break:
    return lambda files: _write(files.directory / "train.csv", content)


class _Plain:
    """An object that is no estimator."""


BAD: dict[str, tuple[Break, tuple[str, ...], str]] = {
    "no estimator": (
        lambda files: (files.directory / "my.joblib").unlink(),
        (),
        "my.joblib: there is no such file",
    ),
    "not a pickle": (_pickle(b"hello"), (), "my.joblib does not load: "),
    "missing module": (
        _pickle(b"cno_such_module\nThing\n."),
        (),
        "my.joblib needs the module no_such_module, which is not installed: install it",
    ),
    "not an estimator": (
        lambda files: files.save({"a": 1}),
        (),
        "holds a dict without a method predict: give a scikit-learn estimator",
    ),
    "not fitted": (
        lambda files: files.save(LogisticRegression()),
        (),
        "my.joblib is not fitted: fit it, or add --train",
    ),
    "does not eat the data": (
        lambda files: files.save(LogisticRegression().fit(np.eye(6), ["no", "some"] * 3)),
        (),
        "the estimator does not accept the data: ",
    ),
    "other number of columns": (
        lambda files: files.save(LinearRegression().fit(np.eye(4), range(4))),
        (),
        "6 columns besides label, and the estimator takes 4: leave out",
    ),
    "missing feature": (
        lambda files: files.table(
            "train.csv", pd.read_csv(files.directory / "train.csv").drop(columns="n1")
        ),
        (),
        "train.csv: the estimator's feature n1 is no column; there are n",
    ),
    "held-out lacks a feature": (
        lambda files: files.table(
            "test.csv", pd.read_csv(files.directory / "test.csv").drop(columns="n1")
        ),
        (),
        "test.csv: the feature n1 is no column",
    ),
    "leaked number": (
        _table(lambda table: table.assign(copy=table[TARGET].map({"no": 1.5, "some": 0}))),
        ("--train",),
        "feature copy is the target in another form: leave it out with `ignore: [copy]`",
    ),
    "leaked category": (
        _table(lambda table: table.assign(copy=table[TARGET].str.upper())),
        ("--train",),
        "feature copy is the target in another form",
    ),
    "constant": (
        _table(lambda table: table.assign(same=1.5)),
        ("--train",),
        "same is constant (1.5): it cannot drift; leave it out with `ignore: [same]`",
    ),
    "identifier": (
        _table(lambda table: table.assign(id=[f"id{i}" for i in range(len(table))])),
        ("--train",),
        "train.csv: column id has a different text in every row, like an identifier",
    ),
    "counter": (
        _table(lambda table: table.assign(row=range(len(table)))),
        ("--train",),
        "train.csv: column row counts the rows, like an identifier",
    ),
    "reserved name": (
        _table(lambda table: table.rename(columns={"n0": "score"})),
        ("--train",),
        "a feature is called score, which is reserved for metrics: rename the column",
    ),
    "impossible name": (
        _table(lambda table: table.rename(columns={"n0": 'a"b'})),
        ("--train",),
        "train.csv: column 'a\"b': String should match pattern",
    ),
    "names collide": (
        _csv(b"n0,n0,label\n1,2,no\n"),
        (),
        "train.csv: two columns are called n0: rename one",
    ),
    "mixed types": (
        _table(lambda table: table.assign(m=["x" if i % 9 == 0 else i / 7 for i in table.index])),
        ("--train",),
        "numbers and 39 texts ('x'): correct them, or set `type: category`",
    ),
    "no rows": (_csv(b"n0,label\n"), (), "train.csv: there are no rows"),
    "empty file": (_csv(b""), (), "train.csv is not a CSV file"),
    "ragged": (_csv(b"n0,label\n1,2\n1,2,3,4\n"), (), "train.csv is not a CSV file"),
    "not text": (_csv(b"\xff\xfe\x00"), (), "train.csv is not a CSV file in UTF-8"),
    "few rows": (
        lambda files: files.table("train.csv", pd.read_csv(files.directory / "train.csv")[:100]),
        (),
        "100 training rows: at least 200 are needed",
    ),
    "few held-out rows": (
        lambda files: files.table("test.csv", pd.read_csv(files.directory / "test.csv")[:20]),
        (),
        "20 held-out rows: at least 50 are needed for a promise",
    ),
    "class not held out": (
        lambda files: files.table(
            "test.csv", pd.read_csv(files.directory / "test.csv").assign(label="no")
        ),
        (),
        "the held-out rows have none of class 'some': hold out some of each class",
    ),
    "target is missing in rows": (
        _table(lambda table: table.assign(label=table["label"].where(table.index != 3))),
        ("--train",),
        "the target has 1 rows without a value",
    ),
    "not YAML": (_text("a: [1"), (), "features.yaml is not YAML: "),
    "YAML list": (_text("- a"), (), "features.yaml: the file: Input should be"),
    "unknown key": (_described(nmae="x"), (), "features.yaml: nmae: Extra inputs"),
    "unknown column": (
        _described(features={"n00": {"unit": "kg"}}),
        (),
        "features.yaml: features: n00 is no column of the data: did you mean n0?",
    ),
    "unknown ignored column": (
        _described(ignore=["zzz"]),
        (),
        "features.yaml: ignore: zzz is no column of the data",
    ),
    "unknown renamed column": (
        _described(features={"size": {"column": "n00"}}),
        (),
        "features.yaml: features: n00 is no column of the data: did you mean n0?",
    ),
    "column with two names": (
        _described(features={"size": {"column": "n0"}, "n0": {"unit": "kg"}}),
        (),
        "features.yaml: features: the column n0 is named twice: remove one",
    ),
    "name of another column": (
        _described(features={"n1": {"column": "n0"}}),
        (),
        "features.yaml: features: n1 is the name of another feature: choose another one for",
    ),
    "name of the target": (
        _described(features={"label": {"column": "n0"}}),
        (),
        "features.yaml: features: label is the name of the target: choose another one for",
    ),
    "reserved public name": (
        _described(features={"score": {"column": "n0"}}),
        (),
        "a feature is called score, which is reserved for metrics",
    ),
    "unknown segment": (
        _described(segments=["c00"]),
        (),
        "features.yaml: segments: c00 is no feature: did you mean c0?",
    ),
    "segment by its column": (
        _described(features={"shape": {"column": "c0"}}, segments=["c0"]),
        (),
        "features.yaml: segments: c0 is no feature",
    ),
    "segment that is not monitored": (
        _described(features={"c0": {"monitored": False}}, segments=["c0"]),
        (),
        "segment c0: the feature is not monitored, so it has no bins: remove `monitored: false`",
    ),
    "needed column ignored": (
        _described(ignore=["n0"]),
        (),
        "features.yaml: ignore: the estimator needs n0",
    ),
    "unknown type": (
        _described(features={"n0": {"type": "float"}}),
        (),
        "features.yaml: features.n0.type: Input should be",
    ),
    "value outside the range": (
        _described(features={"n0": {"maximum": 0}}),
        (),
        "feature n0: ",
    ),
    "headline of another task": (
        _described(headline="mae"),
        (),
        "the headline mae is no figure of this classification: choose one of accuracy",
    ),
}


def test_columns_get_public_names(files: Files) -> None:
    """Clients and metrics use them, and the estimator gets what it was fitted to."""
    plain = files.manifest()
    frame = pd.read_csv(files.directory / "test.csv")
    codes = Encoder(plain.features).codes(cells(frame, plain.features))
    files.describe(
        features={"size": {"column": "n0"}, "n0": {"column": "n1"}, "shape": {"column": "c0"}},
        segments=["shape"],
    )
    built = files.manifest()
    public = frame.rename(columns={"n0": "size", "n1": "n0", "c0": "shape"})
    rows = cells(public, built.features)

    assert [each.name for each in built.features] == ["size", "n0", "n2", "shape", "c1", "flag"]
    assert [each.name for each in built.reference][:4] == ["size", "n0", "n2", "shape"]
    assert [each.feature for each in built.segments] == ["shape"]
    assert "program.npy" in built.files
    assert built.version == plain.version
    assert built.validation == plain.validation
    expected = joblib.load(files.directory / "my.joblib").predict_proba(frame.drop(columns=TARGET))
    assert load_bundle(files.output).model.predict(rows, codes) == pytest.approx(
        expected, abs=1e-12
    )
    estimator = wrap(joblib.load(files.output / "model.joblib"), built)
    assert estimator.predict(rows, codes).tolist() == expected.tolist()
    written = pd.read_csv(files.output / "held_out.csv")
    assert [*written.columns] == [*(each.name for each in built.features), TARGET]
    assert "size" in files.printed


def test_the_stacks_own_bundle_needs_no_setting(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a link to one of its versions, and still the one that the stack serves."""
    monkeypatch.setattr("tools.model.__main__._DEFAULT_OUTPUT", files.output)
    files.manifest()

    assert files.output.is_symlink()
    assert "Serve it: ./task up\n" in files.printed


def test_a_bundle_without_public_names_does_not_mention_them(files: Files) -> None:
    """Its manifest has the bytes that it always had."""
    files.manifest()

    assert '"column"' not in (files.output / "bundle.json").read_text("utf-8")


@pytest.mark.parametrize(("breaks", "options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_line_with_a_remedy(
    breaks: Break, options: tuple[str, ...], message: str, files: Files
) -> None:
    """The status is 1, the last line says what is wrong, and nothing is written."""
    breaks(files)

    assert message in files.failure(*options)


@pytest.mark.parametrize("name", ["my.joblib", "train.csv"])
def test_a_file_that_does_not_exist_is_named(name: str, files: Files) -> None:
    """The line names the path."""
    (files.directory / name).unlink()

    assert f"{name}: there is no such file" in files.failure()


def test_a_target_that_is_no_column_is_named(files: Files) -> None:
    """The line names columns that are spelled alike."""
    assert "the target lable is no column; there are label" in files.failure(target="lable")


def test_a_text_target_needs_a_classifier(files: Files) -> None:
    """A regressor on classes is rejected before it is fitted."""
    files.save(pipeline(LinearRegression(), impute=False))

    assert "column label is not numeric" in files.failure("--train")


def test_a_leaked_number_of_a_regression_is_found(files: Files) -> None:
    """The target in another unit is the target."""
    frame = regression(350, missing=0).drop(columns=["c0", "c1", "flag"])
    (files.directory / "test.csv").unlink()
    files.table("train.csv", frame.assign(fahrenheit=frame[TARGET] * 1.8 + 32))
    files.save(LinearRegression())

    assert "feature fahrenheit is the target in another form" in files.failure("--train")


def test_warnings_of_an_older_library_are_shown(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimator of another scikit-learn loads, and the command says so."""
    model = joblib.load(files.directory / "my.joblib")
    scaler = model.steps[0][1].transformers_[0][1].steps[0][1]
    state = scaler.__getstate__() | {"_sklearn_version": "1.2.3"}
    monkeypatch.setattr(type(scaler), "__getstate__", lambda _: state)
    buffer = io.BytesIO()
    pickle.dump(model, buffer)
    monkeypatch.undo()
    (files.directory / "my.joblib").write_bytes(buffer.getvalue())

    files.manifest()
    assert "from version 1.2.3 when using version" in files.printed
