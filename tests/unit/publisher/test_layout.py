"""The layout of the prediction log: paths, columns, and events there and back."""

from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import fs

from publisher.events import Label, Prediction
from publisher.header import Header
from publisher.layout import (
    LayoutError,
    LogFile,
    checker,
    day_of,
    feature_names,
    header_of,
    open_root,
    parse_path,
    schema,
    to_labels,
    to_predictions,
    to_table,
)

YES = True
LAST_SECOND = datetime(2026, 11, 27, 23, 59, 59, 999_999, UTC).timestamp()


def make_header(
    *features: dict[str, Any], classes: tuple[Any, ...] = (), probabilities: bool = False
) -> Header:
    """Return the header of a model with these features, a classification if it has classes."""
    return Header.model_validate(
        {
            "spool": 1,
            "model": "loans",
            "version": "3f",
            "task": "classification" if classes else "regression",
            "features": features,
            "prediction": {"probabilities": probabilities},
            "target": {"name": "grade", "classes": classes},
        }
    )


EVERY_TYPE = make_header(
    {"name": "ph", "type": "number"},
    {"name": "shelf", "type": "integer"},
    {"name": "sold", "type": "boolean"},
    {"name": "colour", "type": "category", "categories": ["green", "blue"]},
    {"name": "size", "type": "category", "categories": [1, 2]},
    {"name": "bottled", "type": "datetime"},
)


def prediction(*features: object, time: float = 1_764_000_000.25, **rest: object) -> Prediction:
    """Return a prediction of these features."""
    return Prediction.model_validate(
        {"prediction_id": "a", "time": time, "features": features, "prediction": 5.5, **rest}
    )


def test_a_path_names_table_day_version_and_segment() -> None:
    """A file's path is built from its parts, and the parts are read from it, below any root."""
    file = LogFile("labels", date(2026, 11, 27), "3f.1", "0176-ab")

    assert file.path == "labels/day=2026-11-27/version=3f.1/0176-ab.parquet"
    assert parse_path(file.path) == file
    assert parse_path(f"bucket/prefix/{file.path}") == file


def test_a_version_is_one_part_of_a_path() -> None:
    """A label may name any version, so slashes and others are escaped."""
    file = LogFile("labels", date(2026, 11, 27), "../a=b", "0176-ab")

    assert file.path == "labels/day=2026-11-27/version=..%2Fa%3Db/0176-ab.parquet"
    assert parse_path(file.path) == file


@pytest.mark.parametrize(
    "path",
    [
        "predictions/day=2026-11-27/version=3f/.0176-ab.parquet",
        "predictions/day=2026-13-27/version=3f/0176-ab.parquet",
        "predictions/day=2026-11-27/version=3f/0176-ab.parquet.new",
        "others/day=2026-11-27/version=3f/0176-ab.parquet",
        "predictions/0176-ab.parquet",
    ],
)
def test_other_files_are_no_part_of_the_log(path: str) -> None:
    """Unfinished files and those of others have no table, day and version."""
    assert parse_path(path) is None


def test_a_day_ends_at_midnight_in_utc() -> None:
    """The day of an event is that of UTC, whatever the machine's time zone is."""
    assert day_of(prediction(time=LAST_SECOND)) == date(2026, 11, 27)
    assert day_of(prediction(time=LAST_SECOND + 0.001)) == date(2026, 11, 28)


def test_every_type_has_its_column() -> None:
    """Columns have the names and the types of the features, and those of the log around them."""
    found = schema(EVERY_TYPE, "prediction")

    assert dict(zip(found.names, map(str, found.types), strict=True)) == {
        "prediction_id": "string",
        "predicted_at": "timestamp[us, tz=UTC]",
        "ph": "double",
        "shelf": "int64",
        "sold": "bool",
        "colour": "string",
        "size": "string",
        "bottled": "timestamp[us, tz=UTC]",
        "prediction": "double",
    }
    assert header_of(found) == EVERY_TYPE


def test_predictions_are_read_back() -> None:
    """What is written comes back equal, categories that training has not seen included."""
    events = [
        prediction(3.5, 7.0, YES, "green", 2.0, 1_500_000_000.5),
        prediction(None, None, None, None, None, None),
        prediction(-0.0, -3.0, not YES, "rosé", 7.0, 300_000_000_000.0),
    ]
    table = to_table(EVERY_TYPE, "prediction", events)

    assert table["size"].to_pylist() == ["2", None, "7"]
    assert to_predictions(table) == events


def test_classes_and_probabilities_are_read_back() -> None:
    """Classes are text in the file, and of their own type in the events."""
    header = make_header(classes=(0, 1), probabilities=True)
    events = [prediction(prediction=1, probabilities=(0.25, 0.75))]
    table = to_table(header, "prediction", events)

    assert table.drop_columns(["predicted_at"]).to_pylist() == [
        {"prediction_id": "a", "prediction": "1", "probability_0": 0.25, "probability_1": 0.75}
    ]
    assert to_predictions(table) == events


def test_labels_are_read_back() -> None:
    """A label has its prediction's id, its own time and the true value."""
    events = [Label(label_of="a", time=1_764_000_000.25, version="2e", actual=6)]
    table = to_table(EVERY_TYPE, "label", events)

    assert table.to_pylist() == [
        {
            "prediction_id": "a",
            "labelled_at": datetime(2025, 11, 24, 16, 0, 0, 250_000, UTC),
            "actual": 6.0,
        }
    ]
    assert to_labels(table, "2e") == events


@pytest.mark.parametrize(
    ("features", "columns"),
    [
        (["prediction"], ["feature_prediction"]),
        (["Day", "version"], ["feature_Day", "feature_version"]),
        (["day", "feature_day"], ["feature_feature_day", "feature_day"]),
        (["ph", "pH"], ["ph", "feature_pH"]),
        (["probability_b"], ["feature_probability_b"]),
        (["labelled_at", "actual"], ["labelled_at", "actual"]),
    ],
)
def test_no_two_columns_have_one_name(features: list[str], columns: list[str]) -> None:
    """A feature named like a column of the log, or like another but for its case, has a prefix."""
    header = make_header(
        *({"name": each} for each in features), classes=("a", "b"), probabilities=True
    )

    assert [*feature_names(header).values()] == columns


@pytest.mark.parametrize(
    ("place", "value"), [(0, True), (0, "x"), (1, 3.5), (1, 1e19), (2, 1.0), (5, 1e300)]
)
def test_a_value_that_does_not_fit_is_named(place: int, value: object) -> None:
    """The check names the feature but not its value, which may be confidential."""
    features: list[object] = [None] * 6
    features[place] = value

    with pytest.raises(ValueError, match=f"^{EVERY_TYPE.features[place].name}: does not fit"):
        checker(EVERY_TYPE)(prediction(*features))


def test_a_value_that_fits_passes_the_check() -> None:
    """Whatever the check lets pass can be written."""
    event = prediction(3.5, 7.0, YES, "green", 2.0, 1.5)
    checker(EVERY_TYPE)(event)

    assert isinstance(to_table(EVERY_TYPE, "prediction", [event]), pa.Table)


def test_a_root_is_a_directory_or_an_object_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain path is local and absolute; the scheme of a URL names the object store."""
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    local, path = open_root("/data/log/")
    s3, prefix = open_root("s3://bucket/some/prefix/")

    assert (type(local), path) == (fs.LocalFileSystem, "/data/log")
    assert (type(s3), prefix) == (fs.S3FileSystem, "bucket/some/prefix")
    assert s3.region == "eu-west-1"


@pytest.mark.parametrize("url", ["s3://", "ftp://host/path", "gs:///prefix"])
def test_a_root_that_is_neither_is_an_error(url: str) -> None:
    """The error names the root."""
    with pytest.raises(LayoutError, match=f"^{url} "):
        open_root(url)
