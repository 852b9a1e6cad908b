"""Labels are broken down by the segments that the bundle names, as pandas would group the rows."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from bundle.build import build_bundle
from bundle.checks import Recipe, UnmonitorableError
from bundle.load import load_manifest
from bundle.manifest import MAX_SEGMENTS, Feature, Manifest, Quantity
from serving.metrics.bundle_facts import FactsCollector
from serving.prediction_id import Signer
from tests.support.bundles import edit_manifest
from tests.support.grades import GRADES, build_grades
from tests.support.labels import NOW, Worker, create_worker
from tests.support.model import by_label, select, total

SEGMENTS = ("amount", "purpose", "member")


def chosen(*names: str) -> Recipe:
    """Return the recipe of the grades with these segments."""
    features = [each.model_copy(update={"segment": each.name in names}) for each in GRADES.features]
    return replace(GRADES, features=features)


@pytest.fixture(name="grades", scope="module")
def _grades(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    output = tmp_path_factory.mktemp("grades") / "bundle"
    return output, build_grades(output, chosen(*SEGMENTS))


@pytest.fixture(name="worker")
def _worker(grades: tuple[Path, pd.DataFrame], tmp_path: Path) -> Worker:
    return create_worker(grades[0], tmp_path / "metrics")


def test_labels_of_a_classification_are_grouped_like_rows(
    grades: tuple[Path, pd.DataFrame], worker: Worker
) -> None:
    """Labels and wrong answers of each category, truth value and decile, and of missing ones."""
    frame = grades[1]
    predictions = worker.predict(frame)
    worker.label(predictions, frame["grade"].tolist())
    samples = worker.samples
    is_wrong = np.array([each.prediction for each in predictions]) != frame["grade"].to_numpy()

    for segment in worker.bundle.manifest.segments:
        values = _values(worker.bundle.manifest, segment.feature, frame)
        labels = {"feature": segment.feature}
        rows = by_label(samples, "model_feedback_segment_total", "bin", **labels)
        wrong = by_label(samples, "model_feedback_segment_wrong_total", "bin", **labels)
        for each in segment.bins:
            here = values == each.value
            assert rows[each.bin] == here.sum(), each
            assert wrong[each.bin] == is_wrong[here].sum(), each
        assert sum(rows.values()) == len(frame)


def _values(manifest: Manifest, name: str, frame: pd.DataFrame) -> "pd.Series[str]":
    """Return the name of each row's value of a segment, by pandas."""
    column = frame[name]
    if name == "member":
        return column.map({True: "true", False: "false"})
    if name == "purpose":
        return column.fillna("missing")
    reference = next(each for each in manifest.reference if each.name == name)
    edges = [-np.inf, *reference.edges, np.inf]
    names = [each.range for each in reference.bins][: len(edges) - 1]
    found = pd.cut(column, edges, right=False, labels=names).astype(object)
    return pd.Series(found).fillna("missing")


def test_the_promise_is_that_of_the_cross_validated_rows(tmp_path: Path) -> None:
    """Of each value: rows, mean error, deviation of a single row; together they are the whole."""
    build_grades(tmp_path / "b", chosen("purpose"))
    manifest = load_manifest(tmp_path / "b")
    rows = pd.read_csv(tmp_path / "b" / "reference.csv")
    is_wrong = (rows["prediction"] != rows["grade"]).astype(float)
    groups = is_wrong.groupby(rows["purpose"].fillna("missing"))
    (segment,) = manifest.segments

    assert [each.value for each in segment.bins] == ["car", "home", "trip", "unseen", "missing"]
    for each in segment.bins:
        if each.value == "unseen":
            assert (each.rows, np.isnan(each.error)) == (0, True)
            continue
        group = groups.get_group(each.value)
        share = (group.sum() + 2) / (len(group) + 4)
        assert each.rows == len(group)
        assert each.error == pytest.approx(group.mean(), abs=1e-12)
        assert each.deviation == pytest.approx(np.sqrt(share * (1 - share)), abs=1e-12)
    mean = sum(each.rows * each.error for each in segment.bins if each.rows) / len(rows)
    assert 1 - mean == pytest.approx(manifest.validation.cv_accuracy, abs=1e-12)


def test_the_facts_name_the_values(grades: tuple[Path, pd.DataFrame]) -> None:
    """A value without rows of validation has no promise."""
    collector = FactsCollector(load_manifest(grades[0]), "unknown", 0.0)
    families = {family.name: family for family in collector.collect()}
    rows = families["model_segment_validation_rows"].samples
    errors = families["model_segment_validation_error"].samples

    assert {each.labels["value"] for each in rows if each.labels["feature"] == "member"} == {
        *("false", "true")
    }
    assert "unseen" in {each.labels["value"] for each in rows}
    assert "unseen" not in {each.labels["value"] for each in errors}


@pytest.fixture(name="sizes")
def _sizes(tmp_path: Path) -> tuple[Path, pd.DataFrame]:
    """Return the bundle of a regression with a segment of deciles, and its held-out rows."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size": rng.gamma(2, 50, 600), "zone": rng.normal(0, 1, 600)})
    frame["price"] = 3 * frame["size"] + rng.normal(0, 1 + frame["size"] / 20)
    features = [
        Feature(name="size", description="", segment=True),
        Feature(name="zone", description=""),
    ]
    recipe = Recipe("sizes", Quantity(name="price", description=""), features)
    build_bundle(LinearRegression(), frame[:400], frame[400:], recipe, tmp_path / "b")
    return tmp_path / "b", frame[400:]


def test_errors_of_a_regression_are_summed_by_decile(
    sizes: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """Absolute and squared; the promise has the deviation of a single row."""
    worker = create_worker(sizes[0], tmp_path / "m")
    frame = sizes[1]
    predictions = worker.predict(frame)
    worker.label(predictions, frame["price"].tolist())
    errors = np.array([each.prediction for each in predictions]) - frame["price"].to_numpy()
    bins = np.searchsorted(worker.bundle.manifest.reference[0].edges, frame["size"], side="right")
    samples = worker.samples

    for name, amounts in (
        ("", np.ones(len(errors))),
        ("_absolute_error_sum", np.abs(errors)),
        ("_squared_error_sum", errors**2),
    ):
        sums = by_label(samples, f"model_feedback_segment{name}_total", "bin", feature="size")
        expected = np.bincount(bins, amounts, 10)
        assert [sums[f"{at:02}"] for at in range(10)] == pytest.approx(expected.tolist(), rel=1e-12)
    reference = pd.read_csv(sizes[0] / "reference.csv")
    measured = (reference["prediction"] - reference["price"]).abs()
    last = measured[reference["size"] >= worker.bundle.manifest.reference[0].edges[-1]]
    promise = worker.bundle.manifest.segments[0].bins[-1]
    assert promise.rows == len(last)
    assert promise.error == pytest.approx(last.mean())
    assert promise.deviation == pytest.approx(last.std(ddof=0))


def test_labels_of_other_segments_are_not_broken_down(
    sizes: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """The same estimator, and so the same version, in a bundle with other segments, or none."""
    worker = create_worker(sizes[0], tmp_path / "m")
    manifest = worker.bundle.manifest
    for mark in (b"", b"xx\x01", b"\x00" * 8):
        id_ = Signer([b"k" * 32], manifest.name, manifest.version, 8).sign(5.0, NOW, mark)
        assert worker.feedback.accept({"prediction_id": id_, "actual": 5}, NOW) is None
    samples = worker.samples

    assert total(samples, "model_feedback_total") == 3
    assert total(samples, "model_feedback_segment_total") == 0


def test_a_fingerprint_that_two_lists_share_does_no_harm(
    sizes: tuple[Path, pd.DataFrame], tmp_path: Path
) -> None:
    """A bin beyond those of the segment is not counted."""
    worker = create_worker(sizes[0], tmp_path / "m")
    (first, *_) = worker.predict(sizes[1].head(1))
    mark = worker.signer.read(first.prediction_id).mark
    forged = worker.signer.sign(5.0, NOW, mark[:2] + b"\xff")

    assert worker.feedback.accept({"prediction_id": forged, "actual": 5}, NOW) is None
    assert total(worker.samples, "model_feedback_segment_total") == 0


@pytest.mark.parametrize("version", ["0123456789ab", "v" * 40])
def test_ids_with_marks_are_read_and_short(version: str) -> None:
    """Of both tasks, within 120 characters; those without marks stay as they were."""
    mark = bytes(range(2 + MAX_SEGMENTS))
    signer = Signer([b"k" * 32], "made-up", version, len(mark))
    plain = Signer([b"k" * 32], "made-up", version)
    content = b"\0\1fp\0\0" + b"\0" * (signer.room - 6)
    number, answer = signer.sign(5.5, NOW, mark), signer.sign_class(content, NOW, mark)

    for id_ in (number, answer):
        assert len(id_) <= 120
        assert plain.read(id_).mark == mark
        assert plain.read(id_).version == version
    assert plain.read(number).prediction == 5.5
    assert plain.read(plain.sign(5.5, NOW)).mark == b""


def test_without_segments_there_is_no_series(tmp_path: Path) -> None:
    """Neither a counter nor a fact, and no key in the bundle's manifest."""
    build_grades(tmp_path / "b")
    worker = create_worker(tmp_path / "b", tmp_path / "m")
    facts = FactsCollector(worker.bundle.manifest, "unknown", 0.0).collect()

    assert not select(worker.samples, "model_feedback_segment_total")
    assert not any("segment" in family.name for family in facts)
    assert '"segments"' not in (tmp_path / "b" / "bundle.json").read_text()


@pytest.mark.parametrize(
    ("update", "message"),
    [
        ({"monitored": False}, "segment a: the feature is not monitored"),
        ({"type": "datetime"}, "segment a: later times are all in its last bin"),
        (
            {"type": "category", "categories": tuple(range(21))},
            "segment a: it has 21 categories, more than 20: group the rare ones",
        ),
    ],
)
def test_a_feature_that_is_no_segment_is_rejected(
    update: dict[str, object], message: str, tmp_path: Path
) -> None:
    """With the remedy, before anything is fitted."""
    feature = Feature(name="a", description="", segment=True).model_copy(update=update)
    recipe = Recipe("x", Quantity(name="y", description=""), [feature])
    frame = pd.DataFrame({"a": np.arange(300) % 21, "y": np.arange(300.0)})

    with pytest.raises(UnmonitorableError, match=message):
        build_bundle(LinearRegression(), frame, None, recipe, tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_more_segments_than_an_id_has_room_for_are_rejected(tmp_path: Path) -> None:
    """Each takes a byte."""
    features = [Feature(name=f"f{i}", description="", segment=True) for i in range(6)]
    recipe = Recipe("x", Quantity(name="y", description=""), features)
    frame = pd.DataFrame(np.random.default_rng(0).random((300, 7)))
    frame.columns = [*(f"f{i}" for i in range(6)), "y"]

    with pytest.raises(UnmonitorableError, match="6 segments: at most 5 are possible"):
        build_bundle(LinearRegression(), frame, None, recipe, tmp_path / "b")


def test_a_segment_with_other_bins_than_its_feature_does_not_load(
    sizes: tuple[Path, pd.DataFrame],
) -> None:
    """The index in an id would be of another value."""
    segments = [{"feature": "size", "bins": [{"bin": "00", "value": "x", "rows": 0}]}]
    edit_manifest(sizes[0], segments=segments)

    with pytest.raises(Exception, match="the segment size has other bins than its feature"):
        load_manifest(sizes[0])
