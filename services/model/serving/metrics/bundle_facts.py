"""Constant facts from the bundle as gauges, which the master exports."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bundle.manifest import PREDICTION, Manifest


class FactsCollector(Collector):
    """Exports a manifest's facts and the time at which this service started (s since 1970)."""

    def __init__(self, manifest: Manifest, trained_at: str, started: float) -> None:
        families = [
            _info(manifest, trained_at),
            _start_time(manifest, started),
            _reference_ratios(manifest),
            _reference_rows(manifest),
            _reference_kurtosis(manifest),
            *_pairs(manifest),
            *_segments(manifest),
            _validation(manifest),
            _headline(manifest),
            _expected_errors(manifest),
            _importance(manifest),
        ]
        # Of what another task has, a model has nothing.
        self._families = [family for family in families if family.samples]

    def collect(self) -> Iterable[Metric]:
        """Return the same families at each scrape."""
        return self._families


def _family(name: str, help_text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_text, labels=("model", "version", *labels))


def _info(manifest: Manifest, trained_at: str) -> Metric:
    family = _family("model_info", "The running model.", "algorithm", "task", "trained_at")
    labels = (manifest.name, manifest.version, manifest.algorithm, manifest.task, trained_at)
    family.add_metric(labels, 1)
    return family


def _start_time(manifest: Manifest, started: float) -> Metric:
    family = _family(
        "model_start_time_seconds",
        "When the service started with all counters at 0, in seconds since 1970.",
    )
    family.add_metric((manifest.name, manifest.version), started)
    return family


def _reference_ratios(manifest: Manifest) -> Metric:
    family = _family(
        "model_feature_reference_ratio",
        "Share of training rows in each bin, smoothed.",
        *("feature", "bin", "range"),
    )
    for each in manifest.reference:
        for bin_ in each.bins:
            labels = (manifest.name, manifest.version, each.name, bin_.bin, bin_.range)
            family.add_metric(labels, bin_.ratio)
    return family


def _reference_rows(manifest: Manifest) -> Metric:
    family = _family(
        "model_feature_reference_rows",
        "Training rows behind the reference ratios.",
        "feature",
    )
    for each in manifest.reference:
        family.add_metric((manifest.name, manifest.version, each.name), each.rows)
    return family


def _reference_kurtosis(manifest: Manifest) -> Metric:
    family = _family(
        "model_feature_reference_kurtosis",
        "Mean of z⁴ of the training rows, 3 for a normal distribution.",
        "feature",
    )
    for each in manifest.reference:
        if each.kurtosis is not None:
            family.add_metric((manifest.name, manifest.version, each.name), each.kurtosis)
    return family


def _pairs(manifest: Manifest) -> Iterable[Metric]:
    """Yield the facts of the pairs; the correlation also says which features a pair has."""
    correlation = _family(
        "model_feature_pair_reference_correlation",
        "Correlation of a pair in training, once for each of its features.",
        *("pair", "feature"),
    )
    variance = _family(
        "model_feature_pair_reference_variance",
        "Variance of the correlation's estimate, times the rows that it is estimated from.",
        "pair",
    )
    rows = _family(
        "model_feature_pair_reference_rows",
        "Training rows that have both values of a pair.",
        "pair",
    )
    for pair in manifest.pairs:
        labels = (manifest.name, manifest.version, pair.name)
        for feature in pair.features:
            correlation.add_metric((*labels, feature), pair.correlation)
        variance.add_metric(labels, pair.variance)
        rows.add_metric(labels, pair.rows)
    return correlation, variance, rows


def _segments(manifest: Manifest) -> Iterable[Metric]:
    """Yield the promise of each value of the segments, where validation had rows of it."""
    labels = ("feature", "bin", "value")
    rows = _family(
        "model_segment_validation_rows", "Rows of validation by the value of a segment.", *labels
    )
    error = _family(
        "model_segment_validation_error",
        "What validation measured of them: mean |prediction - actual|, or the share of wrong"
        " answers.",
        *labels,
    )
    deviation = _family(
        "model_segment_validation_deviation",
        "Standard deviation of a single row's error in validation.",
        *labels,
    )
    for segment in manifest.segments:
        for each in segment.bins:
            values = (manifest.name, manifest.version, segment.feature, each.bin, each.value)
            rows.add_metric(values, each.rows)
            if each.rows:
                error.add_metric(values, each.error)
                deviation.add_metric(values, each.deviation)
    return rows, error, deviation


def _validation(manifest: Manifest) -> Metric:
    family = _family(
        "model_validation_error",
        "What training measured: errors in units of the target, or figures of a classification.",
        "statistic",
    )
    for statistic, value in manifest.validation.statistics().items():
        family.add_metric((manifest.name, manifest.version, statistic), value)
    return family


def _headline(manifest: Manifest) -> Metric:
    family = _family(
        "model_headline", "The statistic that the accuracy alerts are about.", "statistic"
    )
    family.add_metric((manifest.name, manifest.version, manifest.headline), 1)
    return family


def _importance(manifest: Manifest) -> Metric:
    family = _family(
        "model_feature_importance",
        "How much worse the headline statistic becomes when the feature's values are shuffled.",
        "feature",
    )
    for feature in manifest.features:
        if feature.importance is not None:
            labels = (manifest.name, manifest.version, feature.name)
            family.add_metric(labels, feature.importance)
    return family


def _expected_errors(manifest: Manifest) -> Metric:
    family = _family(
        "model_prediction_bin_absolute_error",
        "Mean |prediction - actual| of cross-validation in each bin of the prediction.",
        "bin",
    )
    prediction = next(each for each in manifest.reference if each.name == PREDICTION)
    for bin_ in prediction.bins:
        if bin_.absolute_error is not None:
            family.add_metric((manifest.name, manifest.version, bin_.bin), bin_.absolute_error)
    return family
