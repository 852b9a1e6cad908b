"""Loading a bundle: every error is one clear line, and only verified pickles are loaded."""

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.linear_model import Ridge

from bundle.load import BundleError, load_bundle, load_manifest
from tests.support.bundles import edit_manifest, make_manifest

MODEL = "model.joblib"


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._path,)


@pytest.fixture(name="bundle")
def _bundle(tmp_path: Path) -> Path:
    """Return the directory of a bundle that holds a pickled list instead of an estimator."""
    directory = tmp_path / "bundle"
    directory.mkdir()
    manifest = make_manifest().model_dump_json(exclude_none=True)
    (directory / "bundle.json").write_text(manifest, "utf-8")
    replace_estimator(directory, pickle.dumps([1, 2, 3]))
    edit_manifest(directory, files={MODEL: sha256(directory / MODEL)})
    return directory


def replace_estimator(bundle: Path, content: bytes) -> None:
    """Replace the estimator in a bundle."""
    (bundle / MODEL).write_bytes(content)


def sha256(path: Path) -> str:
    """Return a file's SHA-256."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def failure(bundle: Path) -> str:
    """Return the one-line error with which a bundle does not load, at start and in a worker."""
    with pytest.raises(BundleError) as at_start:
        load_manifest(bundle)
    with pytest.raises(BundleError) as in_worker:
        load_bundle(bundle)
    assert str(at_start.value) == str(in_worker.value)
    assert len(str(at_start.value).splitlines()) == 1
    return str(at_start.value)


def test_a_valid_bundle_loads(bundle: Path) -> None:
    """The fixture is valid, so each other test fails for its own reason."""
    assert load_bundle(bundle).manifest == load_manifest(bundle)


def test_nothing_is_unpickled_before_its_hash_is_checked(bundle: Path, tmp_path: Path) -> None:
    """A pickle with a side effect has none unless its hash is in bundle.json."""
    crater = tmp_path / "crater"
    replace_estimator(bundle, pickle.dumps(Bomb(crater)))

    assert "model.joblib is corrupt: its SHA-256 is" in failure(bundle)
    assert not crater.exists()

    edit_manifest(bundle, files={MODEL: sha256(bundle / MODEL)})
    load_bundle(bundle)
    assert crater.exists()


def test_a_changed_bit_is_detected(bundle: Path) -> None:
    """A file whose last bit has changed is reported as corrupt."""
    content = bytearray((bundle / MODEL).read_bytes())
    content[-1] ^= 1
    replace_estimator(bundle, bytes(content))

    assert "is corrupt" in failure(bundle)


def test_an_estimator_that_does_not_unpickle_is_reported(bundle: Path) -> None:
    """Its hash is correct but not its content, for instance after an upgrade of a library."""
    for content in (b"", b"not a pickle", b"cno_such_module\nThing\n."):
        replace_estimator(bundle, content)
        edit_manifest(bundle, files={MODEL: sha256(bundle / MODEL)})

        with pytest.raises(BundleError, match=r"model\.joblib does not load: ") as failed:
            load_bundle(bundle)
        assert len(str(failed.value).splitlines()) == 1


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    """The error names the directory and the missing file."""
    assert failure(tmp_path / "nowhere") == (
        f"no bundle at {tmp_path / 'nowhere'}: bundle.json: No such file or directory"
    )


def test_a_file_instead_of_a_directory_is_rejected(bundle: Path) -> None:
    """MODEL_BUNDLE is the directory, not bundle.json."""
    assert failure(bundle / "bundle.json").endswith("Not a directory")


def test_a_missing_estimator_is_named(bundle: Path) -> None:
    """The error names the file that the manifest lists."""
    (bundle / MODEL).unlink()

    assert failure(bundle) == f"{bundle / MODEL}: No such file or directory"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: Expecting property name"),
        (b"\xff\xfe", "not JSON: 'utf-8' codec"),
        (b"[]", "not JSON: "),
        (b"null", "not JSON: "),
        (b"[" * 100_000, "not JSON: "),
        (b"{}", "has format None; this service reads formats 1 and 2"),
        (b'{"format": 3}', "has format 3; this service reads formats 1 and 2"),
        (b'{"format": "1"}', "has format 1; this service reads formats 1 and 2"),
        (b'{"format": 1}', "bundle.json: name: Field required"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_an_invalid_manifest_is_reported(bundle: Path, content: bytes, reason: str) -> None:
    """The error says that it is not JSON, has another format, or lacks a field."""
    (bundle / "bundle.json").write_bytes(content)

    assert reason in failure(bundle)


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"features": []}, "features"),
        ({"version": "no spaces"}, "version"),
        ({"version": "../etc"}, "version"),
        ({"task": "clustering"}, "task"),
        ({"task": "classification"}, "a classification has two classes or more"),
        ({"classes": ["a", "b"]}, "a classification has two classes or more"),
        ({"headline": "auc"}, "auc is no statistic of a regression"),
        ({"probabilities": True}, "a regression has no probabilities"),
        ({"extra": 1}, "extra"),
        ({"reference": []}, "the references are not those of the features"),
        ({"files": {}}, "has no hash of model.joblib"),
        ({"files": {MODEL: "0"}}, f"files.{MODEL}"),
    ],
    ids=str,
)
def test_an_invalid_field_is_named(bundle: Path, changes: dict[str, Any], where: str) -> None:
    """The error contains the path of the field in the file."""
    edit_manifest(bundle, **changes)

    assert where in failure(bundle)


def test_references_in_another_order_are_rejected(bundle: Path) -> None:
    """Otherwise a feature would be compared with the distribution of another."""
    reference = list(load_manifest(bundle).reference)
    swapped = [reference[1], reference[0], *reference[2:]]
    edit_manifest(bundle, reference=[each.model_dump(exclude_none=True) for each in swapped])

    assert "the references are not those of the features" in failure(bundle)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/hostname",
        "a/b",
        "..",
        ".",
        ".hidden",
        "",
        "a\0b",
        "~",
        "C:x",
    ],
)
def test_a_file_outside_the_bundle_is_not_read(bundle: Path, name: str) -> None:
    """File names have no path, so none leads out of the directory."""
    files = {MODEL: sha256(bundle / MODEL), name: "0" * 64}
    shutil.copy(bundle / MODEL, bundle.parent / "evil")
    edit_manifest(bundle, files=files)

    assert "String should match pattern" in failure(bundle)


def test_a_file_name_with_a_line_feed_is_rejected(bundle: Path) -> None:
    """The pattern matches up to the very end of the name."""
    edit_manifest(bundle, files={f"{MODEL}\n": sha256(bundle / MODEL)})

    with pytest.raises(BundleError, match="String should match pattern"):
        load_manifest(bundle)


# Written by version 0.1.0 of the project, with one feature and shortened.
FORMAT_1 = """{
 "format": 1, "name": "old", "version": "0123456789ab", "task": "regression",
 "algorithm": "Ridge",
 "target": {"name": "y", "description": "", "unit": ""},
 "features": [{"name": "x", "description": "", "unit": "", "type": "number", "nullable": false}],
 "rows": 400,
 "reference": [
  {"name": "x", "edges": [0.5], "bins": [
    {"bin": "00", "range": "< 0.5", "count": 200, "ratio": 0.5},
    {"bin": "01", "range": ">= 0.5", "count": 200, "ratio": 0.5}],
   "mean": 0.5, "sigma": 0.25, "minimum": 0.0, "maximum": 1.0},
  {"name": "prediction", "edges": [2.5], "bins": [
    {"bin": "00", "range": "< 2.5", "count": 200, "ratio": 0.5, "absolute_error": 0.1},
    {"bin": "01", "range": ">= 2.5", "count": 200, "ratio": 0.5, "absolute_error": 0.1}],
   "mean": 2.5, "sigma": 1.0, "minimum": 0.0, "maximum": 5.0}],
 "validation": {"mae": 1, "rmse": 2, "rows": 10, "cv_mae": 3, "cv_rmse": 4, "cv_folds": 5},
 "libraries": {}, "files": {"model.joblib": ""}
}"""


def test_a_bundle_of_format_1_is_a_regression_on_a_matrix(tmp_path: Path) -> None:
    """What format 2 added has its default, every feature is monitored, and the model predicts."""
    rows = np.linspace(0, 1, 5)[:, None]
    joblib.dump(Ridge().fit(rows, 3 * rows[:, 0]), tmp_path / MODEL)
    (tmp_path / "bundle.json").write_text(FORMAT_1, "utf-8")
    edit_manifest(tmp_path, files={MODEL: sha256(tmp_path / MODEL)})

    loaded = load_bundle(tmp_path)

    assert (loaded.manifest.input.kind, loaded.manifest.headline) == ("matrix", "mae")
    assert [each.name for each in loaded.manifest.monitored] == ["x"]
    assert loaded.manifest.validation.statistics().keys() == {"mae", "rmse", "cv_mae", "cv_rmse"}
    expected = joblib.load(tmp_path / MODEL).predict(rows)
    assert loaded.model.predict(rows.tolist(), rows).tolist() == expected.tolist()


def test_other_library_versions_are_named(bundle: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The warning names the version that built the bundle and the one that loads it."""
    edit_manifest(
        bundle, libraries={"scikit-learn": "0.1", "numpy": np.__version__, "nothing": "2"}
    )
    load_bundle(bundle)

    assert [each.getMessage() for each in caplog.records] == [
        f"the bundle was built with scikit-learn 0.1, and {sklearn.__version__} is installed",
        "the bundle was built with nothing 2, and none is installed",
    ]
