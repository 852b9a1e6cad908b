"""The expected metrics, counted from requests and responses one value at a time."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import fsum, isclose

from prometheus_client.parser import text_string_to_metric_families

from bench.servers import Row
from bench.traffic import Exchange
from bundle.manifest import PREDICTION, Manifest, Reference

Series = tuple[str, frozenset[tuple[str, str]]]
Samples = Mapping[Series, float]

_ACCEPTED = 200
# The last digits of a float64 sum depend on the order of its terms; everything else is exact.
_SUMS = ("model_feature_zscore_sum_total", "model_feature_zscore_squared_sum_total")
_VALUE_SUM = "model_prediction_value_sum"
_RELATIVE_ERROR = 1e-12


def parse(text: str) -> dict[Series, float]:
    """Return the samples of a text exposition."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def expected(manifest: Manifest, answers: Iterable[Exchange]) -> dict[Series, float]:
    """Return every series that these responses have changed, except those of durations."""
    count = _Count(manifest)
    for each in answers:
        count.add(each)
    return count.samples()


def growth(after: Samples, before: Samples) -> dict[Series, float]:
    """Return the increase of each series."""
    return {series: value - before.get(series, 0.0) for series, value in after.items()}


def differences(found: Samples, wanted: Samples) -> list[str]:
    """Describe each series whose value is wrong; a series missing in `wanted` must be 0."""
    counted = {name for name, _ in wanted}
    wrong = []
    for series in {*wanted, *(each for each in found if each[0] in counted)}:
        actual, correct = found.get(series), wanted.get(series, 0.0)
        if actual is None or not _equal(series[0], actual, correct):
            wrong.append(f"{series[0]}{sorted(series[1])}: {actual}, not {correct}")
    return sorted(wrong)


def _equal(name: str, actual: float, correct: float) -> bool:
    if name in (*_SUMS, _VALUE_SUM):
        return isclose(actual, correct, rel_tol=_RELATIVE_ERROR, abs_tol=0)
    return actual == correct


class _Count:
    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._model = {"model": manifest.name, "version": manifest.version}
        self._counts: Counter[Series] = Counter()
        self._terms: defaultdict[Series, list[float]] = defaultdict(list)
        self._predictions: list[float] = []

    def add(self, answered: Exchange) -> None:
        """Count one exchange."""
        sent = answered.sent
        self._request(answered)
        for field, reason in sent.faults:
            self._model_count("model_input_rejected_total", field=field, reason=reason)
        for _ in range(sent.unknown):
            self._model_count("model_input_rejected_total", field="_other", reason="unknown")
        if answered.status == _ACCEPTED:
            answer = json.loads(answered.body)
            predictions = answer.get("predictions", [answer])
            for row, prediction in zip(sent.rows, predictions, strict=True):
                self._row({**row, PREDICTION: prediction[self._manifest.target.name]})

    def samples(self) -> dict[Series, float]:
        """Return the counted series."""
        for bound in self._value_bounds():
            series = self._series("model_prediction_value_bucket", le=str(bound))
            self._counts[series] = sum(value <= bound for value in self._predictions)
        value_sum = self._series(_VALUE_SUM)
        return {
            **{series: float(count) for series, count in self._counts.items()},
            **{series: fsum(terms) for series, terms in self._terms.items()},
            value_sum: fsum(self._predictions),
        }

    def _row(self, values: Row) -> None:
        self._model_count("model_predictions_total")
        self._model_count("model_prediction_value_count")
        self._predictions.append(values[PREDICTION])
        for signal in self._manifest.reference:
            value = values[signal.name]
            self._model_count(
                "model_feature_bin_total", feature=signal.name, bin=_bin(signal, value)
            )
            if value < signal.minimum:
                self._out_of_range(signal, "below")
            if value > signal.maximum:
                self._out_of_range(signal, "above")
            z = (value - signal.mean) / signal.sigma
            sign = "pos" if z > 0 else "neg"
            self._terms[self._series(_SUMS[0], feature=signal.name, sign=sign)].append(abs(z))
            self._terms[self._series(_SUMS[1], feature=signal.name)].append(z * z)

    def _out_of_range(self, signal: Reference, side: str) -> None:
        self._model_count("model_feature_out_of_range_total", feature=signal.name, side=side)

    def _request(self, answered: Exchange) -> None:
        labels = {
            "handler": answered.sent.path,
            "method": "POST",
            "status": f"{answered.status // 100}xx",
        }
        for name, amount in (
            ("http_requests_total", 1),
            ("http_request_duration_seconds_count", 1),
            ("http_request_size_bytes_count", 1),
            ("http_request_size_bytes_sum", len(answered.sent.body)),
            ("http_response_size_bytes_count", 1),
            ("http_response_size_bytes_sum", len(answered.body)),
        ):
            self._counts[_series(name, labels)] += amount

    def _value_bounds(self) -> list[float]:
        """Return the bounds of 20 equal steps over the target's range, and infinity."""
        target = self._manifest.target
        low, high = target.minimum or 0.0, target.maximum or 0.0
        return [*(low + (high - low) * step / 20 for step in range(21)), float("inf")]

    def _model_count(self, name: str, **labels: str) -> None:
        self._counts[self._series(name, **labels)] += 1

    def _series(self, name: str, **labels: str) -> Series:
        return _series(name, {**self._model, **labels})


def _series(name: str, labels: Mapping[str, str]) -> Series:
    # prometheus_client's spelling of infinity.
    text = {"inf": "+Inf"}
    return name, frozenset((label, text.get(value, value)) for label, value in labels.items())


def _bin(signal: Reference, value: float) -> str:
    """Return the bin that holds a value: edges[i-1] ≤ value < edges[i]."""
    return f"{sum(value >= edge for edge in signal.edges):02d}"
