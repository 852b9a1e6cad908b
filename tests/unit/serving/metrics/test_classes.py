"""The metrics of categories and classes equal a slow and simple count of each row."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.encode import Cell, Encoder
from bundle.manifest import PREDICTION, SCORE, Feature, Manifest, Value
from serving.metrics.classes import Line
from serving.metrics.predictions import ModelMetrics
from serving.values import to_text
from tests.support.bundles import TYPED_FEATURES, make_classification, make_rows, read_metrics
from tests.support.model import Samples, by_label, select, total

RANDOM = np.random.default_rng(11)


def count(directory: Path, manifest: Manifest, codes: Floats, outputs: Floats) -> Samples:
    """Return the metrics of rows, counted in batches of different sizes."""
    metrics = ModelMetrics(manifest, directory)
    for start, end in ((0, 1), (1, 130), (130, len(codes))):
        metrics.record(codes[start:end], outputs[start:end], 0.001)
    return read_metrics(directory)


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c"), tuple(range(30))])
def test_classes_scores_and_categories_are_counted(
    tmp_path: Path, classes: tuple[Value, ...]
) -> None:
    """Bins of codes with unseen and missing ones, classes, and the histogram of scores."""
    manifest = make_classification(classes)
    rows = [
        (*row[:3], "new" if at % 7 == 0 else row[3], *row[4:])
        for at, row in enumerate(make_rows(400))
    ]
    codes = Encoder(TYPED_FEATURES).codes(rows)
    outputs = RANDOM.dirichlet(np.ones(len(classes)), 400)
    predicted = outputs.argmax(axis=1)
    samples = count(tmp_path, manifest, codes, outputs)

    colors = by_label(samples, "model_feature_bin_total", "bin", feature="color")
    known: dict[Cell, str] = {None: "missing", "new": "unseen"}
    known |= {each: f"{at:02}" for at, each in enumerate(TYPED_FEATURES[3].categories)}
    assert {key: value for key, value in colors.items() if value} == Counter(
        known[row[3]] for row in rows
    )
    assert set(colors) == {*known.values()}
    by_class = by_label(samples, "model_prediction_class_total", "class")
    assert by_class == {to_text(each): (predicted == at).sum() for at, each in enumerate(classes)}
    bins = by_label(samples, "model_feature_bin_total", "bin", feature=PREDICTION)
    assert bins == {
        f"{at:02}": sum(np.minimum(predicted, 19) == at) for at in range(min(20, len(classes)))
    }
    scores = outputs[:, 1] if len(classes) == 2 else outputs.max(axis=1)
    assert total(samples, "model_prediction_score_sum") == pytest.approx(scores.sum())
    below = by_label(samples, "model_prediction_score_bucket", "le")
    assert below["0.5"] == (scores <= 0.5).sum()
    reference = manifest.reference[-1]
    z = (scores - reference.mean) / reference.sigma
    squares = total(samples, "model_feature_zscore_squared_sum_total", feature=SCORE)
    assert squares == pytest.approx((z**2).sum())
    confidence = np.interp(outputs.max(axis=1), [0, 0.5, 1], [0.1, 0.4, 0.9]).sum()
    assert total(samples, "model_prediction_confidence_sum_total") == pytest.approx(confidence)


@pytest.mark.parametrize(
    "points",
    [
        [(0.5, 0.7)],
        [(0.0, 0.1), (0.5, 0.4), (1.0, 0.9)],
        [(0.3, 0.1), (0.3, 0.2), (0.6, 0.2), (0.6, 0.8), (0.6, 0.9)],
        sorted(RANDOM.random((50, 2)).tolist()),
    ],
)
def test_a_line_equals_numpys(points: list[tuple[float, float]]) -> None:
    """At its points, between them and outside, with one point and with steps."""
    x, y = np.array(points).T
    at = np.concatenate([x, np.nextafter(x, 0), np.nextafter(x, 1), RANDOM.random(1_000), [-1, 2]])

    np.testing.assert_allclose(Line(points)(at), np.interp(at, x, y), rtol=1e-12)


def test_codes_have_neither_a_mean_nor_a_range(tmp_path: Path) -> None:
    """Categories, classes and what is not monitored have no such series; truth values have."""
    ModelMetrics(make_classification(), tmp_path)
    samples = read_metrics(tmp_path)

    def signals(name: str) -> set[str]:
        return {dict(key)["feature"] for key in select(samples, name)}

    numeric = {"size", "rooms", "new", "built", SCORE}
    assert signals("model_feature_zscore_squared_sum_total") == numeric
    assert signals("model_feature_out_of_range_total") == numeric
    assert signals("model_feature_bin_total") == numeric | {"color", "zone", PREDICTION}
    assert set(samples.values()) == {0}


def test_a_truth_value_has_two_bins_and_a_mean(tmp_path: Path) -> None:
    """It is a number, 0 or 1."""
    codes = Encoder(TYPED_FEATURES).codes(make_rows(300))
    samples = count(tmp_path, make_classification(), codes, RANDOM.dirichlet(np.ones(3), 300))
    new = codes[:, 2]

    assert by_label(samples, "model_feature_bin_total", "bin", feature="new") == {
        "00": (new == 0).sum(),
        "01": (new == 1).sum(),
        "missing": np.isnan(new).sum(),
    }


def test_without_probabilities_codes_are_all_there_is(tmp_path: Path) -> None:
    """No score, no histogram and no confidence."""
    manifest = make_classification(probabilities=False)
    codes = Encoder(TYPED_FEATURES).codes(make_rows(300))
    samples = count(tmp_path, manifest, codes, np.arange(300.0) % 3)

    assert by_label(samples, "model_feature_bin_total", "bin", feature=PREDICTION) == {
        "00": 100,
        "01": 100,
        "02": 100,
    }
    assert not any("score" in name and "zscore" not in name for name, _ in samples)
    assert not any("confidence" in name for name, _ in samples)


def test_categories_beyond_the_bins_share_the_last_one(tmp_path: Path) -> None:
    """An unseen one is not among them."""
    many = Feature(name="many", description="", type="category", categories=tuple(range(100)))
    manifest = make_classification(("a", "b"), (many,))
    codes = Encoder((many,)).codes([(each,) for each in (0, 18, 19, 57, 99, 100, "x")])
    samples = count(tmp_path, manifest, codes, np.tile([0.4, 0.6], (7, 1)))

    bins = by_label(samples, "model_feature_bin_total", "bin", feature="many")
    assert {key: value for key, value in bins.items() if value} == {
        "00": 1,
        "18": 1,
        "19": 3,
        "unseen": 2,
    }
