"""The metrics of predictions equal a slow and simple count of each row."""

import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Feature, Manifest, Quantity, Reference
from bundle.pairs import MAX_PAIRS
from serving.inputs import BODY, BODY_REASONS, OTHER, REASONS, Fault
from serving.metrics.distributions import MAX_ABSOLUTE_Z
from serving.metrics.predictions import INFERENCE_BOUNDS, ModelMetrics
from tests.support.bundles import FEATURES, make_manifest, read_metrics
from tests.support.model import Samples, by_label, select, total

MODEL = {"model": "made-up", "version": "0123456789ab"}
RANDOM = np.random.default_rng(7)
NAN = math.nan

Counts = Counter[tuple[str, ...]]


def manifest() -> Manifest:
    """Return a manifest with ties, nullable features and missing values in the training rows."""
    values = np.random.default_rng(1).normal(5, 2, (1000, len(FEATURES)))
    values[:350, 0] = 0.0
    values[:, 2] = values[:, 2].round()
    values[::10, 3] = NAN
    return make_manifest(FEATURES, values)


def bin_of(reference: Reference, value: float) -> str:
    """Return a value's bin by iterating over the edges."""
    if math.isnan(value):
        return "missing"
    index = 0
    for edge in reference.edges:
        if value >= edge:
            index += 1
    return f"{index:02d}"


def expected(
    references: Sequence[Reference], rows: Iterable[Sequence[float]]
) -> dict[str, dict[tuple[str, str], float]]:
    """Count rows one value at a time: family → (feature, bin, sign or side) → number."""
    families: dict[str, Counter[tuple[str, str]]] = {
        name: Counter() for name in ("bin", "zscore_sum", "zscore_squared_sum", "out_of_range")
    }
    for row in rows:
        for reference, value in zip(references, row, strict=True):
            name = reference.name
            families["bin"][name, bin_of(reference, value)] += 1
            if math.isnan(value):
                continue
            z = (value - reference.mean) / reference.sigma
            z = min(max(z, -MAX_ABSOLUTE_Z), MAX_ABSOLUTE_Z)
            families["zscore_sum"][name, "pos" if z > 0 else "neg"] += abs(z)  # type: ignore[assignment]
            families["zscore_squared_sum"][name, ""] += z * z  # type: ignore[assignment]
            families["out_of_range"][name, "below"] += value < reference.minimum
            families["out_of_range"][name, "above"] += value > reference.maximum
    return {family: dict(counts) for family, counts in families.items()}


def found(samples: Samples, family: str, label: str) -> dict[tuple[str, str], float]:
    """Return a family's samples by feature and another label."""
    return {
        (dict(key)["feature"], dict(key).get(label, "")): value
        for key, value in select(samples, f"model_feature_{family}_total", **MODEL).items()
    }


def check(samples: Samples, references: Sequence[Reference], rows: Floats) -> None:
    """Compare the counters of all signals with the slow count."""
    wanted = expected(references, rows.tolist())
    for family, label in (
        ("bin", "bin"),
        ("zscore_sum", "sign"),
        ("zscore_squared_sum", ""),
        ("out_of_range", "side"),
    ):
        counted = found(samples, family, label)
        assert wanted[family].keys() <= counted.keys()
        assert {key: wanted[family].get(key, 0.0) for key in counted} == pytest.approx(
            counted, rel=1e-9, abs=1e-9
        )


def inputs(count: int) -> Floats:
    """Return rows (count, signals) on, between and far beyond the edges, with missing values."""
    random = np.random.default_rng(count)
    rows = random.normal(5, 3, (count, len(FEATURES) + 1))
    edges = [np.array(each.edges) for each in manifest().reference]
    for column, values in enumerate(edges):
        rows[::7, column] = random.choice(values, len(rows[::7]))
    rows[::11, 3] = NAN
    rows[::13, 4] = NAN
    return rows


@pytest.mark.parametrize("count", [1, 2, 17, 1000])
def test_a_batch_is_counted_like_its_single_rows(tmp_path: Path, count: int) -> None:
    """Bins, sums of z and z², and values out of range are correct for one row and for many."""
    metrics, rows = ModelMetrics(manifest(), tmp_path), inputs(count)
    metrics.record(rows[:, :-1], rows[:, -1], 0.001)

    samples = read_metrics(tmp_path)
    check(samples, manifest().reference, rows)
    assert total(samples, "model_predictions_total", **MODEL) == count
    assert total(samples, "model_monitoring_failures_total") == 0


def test_one_call_of_many_rows_equals_many_calls_of_one(tmp_path: Path) -> None:
    """The counters of the signals do not depend on how rows are batched."""
    rows = inputs(300)
    for name in ("together", "alone"):
        (tmp_path / name).mkdir()
    together = ModelMetrics(manifest(), tmp_path / "together")
    together.record(rows[:, :-1], rows[:, -1], 0.001)
    alone = ModelMetrics(manifest(), tmp_path / "alone")
    for row in rows:
        alone.record(row[None, :-1], row[None, -1], 0.001)

    for name in ("model_feature_bin_total", "model_feature_out_of_range_total"):
        assert select(read_metrics(tmp_path / "together"), name) == select(
            read_metrics(tmp_path / "alone"), name
        )
    for name in ("model_feature_zscore_sum_total", "model_feature_zscore_squared_sum_total"):
        assert select(read_metrics(tmp_path / "together"), name) == pytest.approx(
            select(read_metrics(tmp_path / "alone"), name), rel=1e-12
        )


@pytest.mark.parametrize("value", [1e308, -1e308, 1e300, 5e-324, 0.0, -0.0])
def test_an_absurd_value_is_counted_and_clipped(tmp_path: Path, value: float) -> None:
    """It is in an outer bin, and z is clipped at ±1,000, so later rows still change the sums."""
    narrow = make_manifest(FEATURES, RANDOM.normal(5, 1e-3, (1000, len(FEATURES))))
    metrics = ModelMetrics(narrow, tmp_path)
    rows = np.full((3, len(FEATURES) + 1), value)
    metrics.record(rows[:, :-1], rows[:, -1], 0.001)

    samples = read_metrics(tmp_path)
    check(samples, narrow.reference, rows)
    assert total(samples, "model_monitoring_failures_total") == 0
    assert max(found(samples, "zscore_sum", "sign").values()) <= 3 * MAX_ABSOLUTE_Z * (1 + 1e-12)


def test_a_call_without_predictions_counts_no_row(tmp_path: Path) -> None:
    """A whole batch may be without a prediction."""
    metrics = ModelMetrics(manifest(), tmp_path)
    metrics.record(np.empty((0, len(FEATURES))), np.empty(0), 0.001)

    samples = read_metrics(tmp_path)
    assert set(select(samples, "model_feature_bin_total").values()) == {0}
    assert total(samples, "model_monitoring_failures_total") == 0


def test_counters_never_decrease(tmp_path: Path) -> None:
    """Otherwise Prometheus would see a reset, if only because of rounding."""
    metrics = ModelMetrics(manifest(), tmp_path)
    before: Samples = {}
    for _ in range(100):
        scale = 10.0 ** RANDOM.integers(-12, 6)
        rows = 5 + RANDOM.normal(0, scale, (RANDOM.integers(1, 9), len(FEATURES) + 1))
        metrics.record(rows[:, :-1], rows[:, -1], 0.001)
        after = read_metrics(tmp_path)
        counters = [key for key in after if key[0].endswith("_total")]

        assert all(after[key] >= before.get(key, 0.0) for key in counters)
        before = after


def test_the_histogram_of_predictions_equals_numpys(tmp_path: Path) -> None:
    """It has 21 bounds over the target's range, and its sum has clipped values."""
    target = Quantity(name="t", description="", minimum=0, maximum=10)
    manifest = make_manifest(target=target)
    metrics = ModelMetrics(manifest, tmp_path)
    values = np.concatenate((RANDOM.normal(5, 4, 500), np.linspace(0, 10, 21), [1e9, -1e9, 1e308]))
    rows = np.full((len(values), len(FEATURES)), 5.0)
    metrics.record(rows, values, 0.001)

    samples = read_metrics(tmp_path)
    buckets = by_label(samples, "model_prediction_value_bucket", "le", **MODEL)
    assert {le: (values <= float(le)).sum() for le in buckets} == buckets
    assert [*map(float, buckets)] == [*np.linspace(0, 10, 21), np.inf]
    assert total(samples, "model_prediction_value_count", **MODEL) == len(values)
    seen = manifest.reference[-1]
    reach = MAX_ABSOLUTE_Z * seen.sigma
    cut = values.clip(seen.mean - reach, seen.mean + reach)
    assert total(samples, "model_prediction_value_sum", **MODEL) == pytest.approx(cut.sum())


def test_the_buckets_of_an_unbounded_target_span_the_training_range(tmp_path: Path) -> None:
    """They are not the reference bins, which differ between versions."""
    ModelMetrics(make_manifest(), tmp_path)

    seen = make_manifest().reference[-1]
    bounds = [*map(float, by_label(read_metrics(tmp_path), "model_prediction_value_bucket", "le"))]
    assert bounds[0] == pytest.approx(seen.minimum)
    assert bounds[-2:] == pytest.approx([seen.maximum, np.inf])


def test_the_inference_time_is_counted_per_call(tmp_path: Path) -> None:
    """Each call of the estimator is one observation, whatever the number of rows."""
    metrics = ModelMetrics(manifest(), tmp_path)
    seconds = (0.00005, 0.0001, 0.00011, 0.3, 5.0)
    for each in seconds:
        rows = inputs(3)
        metrics.record(rows[:, :-1], rows[:, -1], each)

    samples = read_metrics(tmp_path)
    buckets = by_label(samples, "model_inference_seconds_bucket", "le", **MODEL)
    assert {le: sum(each <= float(le) for each in seconds) for le in buckets} == buckets
    assert len(buckets) == len(INFERENCE_BOUNDS) + 1
    assert total(samples, "model_inference_seconds_sum", **MODEL) == pytest.approx(sum(seconds))


def test_every_series_starts_at_zero(tmp_path: Path) -> None:
    """There is one for each bin, sign, side and fault of the closed lists, and no other."""
    ModelMetrics(manifest(), tmp_path)
    samples = read_metrics(tmp_path)

    names = [*(each.name for each in FEATURES), PREDICTION]
    bins = {(each.name, bin_.bin) for each in manifest().reference for bin_ in each.bins}
    faults = {
        *(Fault(each.name, reason) for each in FEATURES for reason in REASONS),
        *(Fault(BODY, reason) for reason in BODY_REASONS),
        Fault(OTHER, "unknown"),
    }
    rejected = select(samples, "model_input_rejected_total", **MODEL)
    assert set(samples.values()) == {0}
    assert bins == found(samples, "bin", "bin").keys()
    assert {(n, s) for n in names for s in ("pos", "neg")} == found(
        samples, "zscore_sum", "sign"
    ).keys()
    assert {(n, "") for n in names} == found(samples, "zscore_squared_sum", "").keys()
    assert {(n, s) for n in names for s in ("below", "above")} == found(
        samples, "out_of_range", "side"
    ).keys()
    assert faults == {Fault(dict(key)["field"], dict(key)["reason"]) for key in rejected}
    assert all(key[1] >= set(MODEL.items()) for key in samples)


def test_only_nullable_features_have_a_bin_for_missing_values(tmp_path: Path) -> None:
    """No feature has a bin for unseen categories, because there are no categories."""
    ModelMetrics(manifest(), tmp_path)

    counted = found(read_metrics(tmp_path), "bin", "bin")
    nullable = {each.name for each in FEATURES if each.nullable}
    assert {name for name, bin_ in counted if bin_ == "missing"} == nullable
    assert not {name for name, bin_ in counted if bin_ == "unseen"}


def test_the_number_of_series_is_limited_by_the_bundle(tmp_path: Path) -> None:
    """A signal has at most 16 series, a feature 6 more, a pair 3, and the rest is constant."""
    ModelMetrics(manifest(), tmp_path)

    signals, features = len(FEATURES) + 1, len(FEATURES)
    limit = signals * (11 + 5) + features * 6 + 60 + 3 * MAX_PAIRS
    assert len(read_metrics(tmp_path)) <= limit


def test_rejections_are_counted_by_field_and_reason(tmp_path: Path) -> None:
    """Each fault counts once, also if a request has several."""
    metrics = ModelMetrics(manifest(), tmp_path)
    faults = [Fault("plain", "type"), Fault("plain", "type"), Fault(BODY, "too_large")]
    metrics.reject(faults, rows=2)

    samples = read_metrics(tmp_path)
    for fault, count in Counter(faults).items():
        assert total(samples, "model_input_rejected_total", **fault._asdict()) == count
    assert total(samples, "model_input_rejected_total") == 3


@pytest.mark.parametrize(
    ("rows", "predictions"),
    [
        (np.zeros((2, 1)), np.zeros(2)),
        (np.zeros((2, len(FEATURES))), np.zeros(3)),
        (np.zeros((2, len(FEATURES))), np.array(["a", "b"])),
    ],
    ids=["features", "lengths", "text"],
)
def test_a_failure_is_counted_and_never_raised(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rows: Floats, predictions: Floats
) -> None:
    """The prediction is returned, the log has the reason, and later predictions are counted."""
    metrics = ModelMetrics(manifest(), tmp_path)
    with caplog.at_level(logging.ERROR):
        metrics.record(rows, predictions, 0.001)
    good = inputs(5)
    metrics.record(good[:, :-1], good[:, -1], 0.001)

    samples = read_metrics(tmp_path)
    assert total(samples, "model_monitoring_failures_total", **MODEL) == 1
    assert "a prediction was not counted" in caplog.text
    check(samples, manifest().reference, good)


def test_a_model_with_a_single_flag_is_monitored(tmp_path: Path) -> None:
    """The flag has two bins and one edge."""
    flag = Feature(name="flag", description="", type="integer", minimum=0, maximum=1)
    values = (np.arange(1000) % 50 == 0).astype(float)[:, None]
    built = make_manifest([flag], values)
    ModelMetrics(built, tmp_path).record(np.array([[0.0], [1.0], [1.0]]), np.zeros(3), 0.001)

    assert by_label(read_metrics(tmp_path), "model_feature_bin_total", "bin", feature="flag") == {
        "00": 1,
        "01": 2,
    }
