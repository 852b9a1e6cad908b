"""Constant facts from the bundle as gauges, which the master exports."""

from collections.abc import Iterable

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bundle.manifest import Manifest


class FactsCollector(Collector):
    """Exports a manifest's facts and the time at which this service started (s since 1970)."""

    def __init__(self, manifest: Manifest, trained_at: str, started: float) -> None:
        self._families = [
            _info(manifest, trained_at),
            _start_time(manifest, started),
            _reference_ratios(manifest),
            _reference_rows(manifest),
            _reference_kurtosis(manifest),
            _validation(manifest),
            _expected_errors(manifest),
        ]

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
        family.add_metric((manifest.name, manifest.version, each.name), manifest.rows)
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


def _validation(manifest: Manifest) -> Metric:
    family = _family(
        "model_validation_error",
        "Error measured in training, in units of the target.",
        "statistic",
    )
    errors = manifest.validation
    for statistic in ("mae", "rmse", "cv_mae", "cv_rmse"):
        family.add_metric((manifest.name, manifest.version, statistic), getattr(errors, statistic))
    return family


def _expected_errors(manifest: Manifest) -> Metric:
    family = _family(
        "model_prediction_bin_absolute_error",
        "Mean |prediction - actual| of cross-validation in each bin of the prediction.",
        "bin",
    )
    for bin_ in manifest.reference[-1].bins:
        if bin_.absolute_error is not None:
            family.add_metric((manifest.name, manifest.version, bin_.bin), bin_.absolute_error)
    return family
