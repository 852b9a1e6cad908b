"""The drift statistics and alerts of prometheus/rules, on minute counts.

One signal, or one pair of them, at a time; arrays have a value per minute (minutes,) or per minute
and bin (minutes, bins). What Prometheus lacks is NaN here, and every comparison with it is false.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.manifest import Pair

Flags = NDArray[np.bool_]
Interval = tuple[int, int]

HOUR, DAY, WEEK = 60, 1_440, 10_080
WINDOWS = {"1h": HOUR, "1d": DAY}
# The references of the hour, and how many minutes ago they were.
PAST = {"yesterday": DAY, "last_week": WEEK}
# When a day of the week that differs from training is over, or has not begun.
BETWEEN = 3 * DAY

# The upper quartile of the normal distribution.
_QUARTILE = 0.674489750
# A smaller variance is none.
_NONE = 1e-6


@dataclass(frozen=True)
class Thresholds:
    """The numbers of the rules; tests/unit/tools/test_honesty_rules.py compares them."""

    rows: float = 200
    effect: float = 0.1
    effect_first_day: float = 0.25
    # The 99.9 % quantile of the normal distribution, one-sided and two-sided.
    normal_quantile: float = 3.090232306
    z: float = 3.29
    mean: float = 0.3
    log_variance: float = 0.22314
    bin_gain: float = 0.06
    z_bin: float = 4
    correlation: float = 0.2
    z_correlation: float = 4
    # Minutes: `for` and `keep_firing_for`.
    drift_for: int = 5
    sudden_for: int = 30
    correlation_for: int = 30
    # How often the groups `statistics` and `sudden` are evaluated.
    statistics_interval: int = 3
    sudden_interval: int = 4
    keep_firing_for: int = 360


THRESHOLDS = Thresholds()


@dataclass(frozen=True)
class Training:
    """What the bundle says about one signal: rows per bin (bins,), and the kurtosis."""

    counts: Floats
    kurtosis: float

    @property
    def ratio(self) -> Floats:
        """Return the smoothed share of each bin (bins,)."""
        return smooth(self.counts)


@dataclass(frozen=True)
class Minutes:
    """What the service counted in each minute about one signal.

    `counts` are rows per bin (minutes, bins), `z` and `z_squared` the sums of the standardized
    values, `repeats` the earlier occurrences of rows by window, each (minutes,).
    """

    counts: Floats
    z: Floats
    z_squared: Floats
    repeats: Mapping[str, Floats] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A window against one reference: how they differ, and by how much samples differ anyway."""

    psi: Floats
    sampling_variance: Floats
    bins: int

    @property
    def noise(self) -> Floats:
        """Return the PSI that two samples of one distribution have on average (Yurdakul 2018)."""
        return (self.bins - 1) * self.sampling_variance

    def verdict(self, effective_rows: Floats, thresholds: Thresholds = THRESHOLDS) -> Floats:
        """Return 1 for drift and 0 for none; NaN with too few rows or no reference."""
        found = (self.psi - self.noise > thresholds.effect) & (
            self.psi > critical(self.noise, self.bins, thresholds)
        )
        known = (effective_rows >= thresholds.rows) & np.isfinite(self.psi)
        return np.where(known, found, np.nan)


def smooth(counts: Floats) -> Floats:
    """Return the share of each bin of counts (..., bins), as if half a row more lay in each."""
    return np.asarray((counts + 0.5) / (counts + 0.5).sum(axis=-1, keepdims=True))


def divergence(p: Floats, q: Floats) -> Floats:
    """Return the PSI of shares p against shares q, both (..., bins)."""
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def critical(noise: Floats, bins: int, thresholds: Thresholds = THRESHOLDS) -> Floats:
    """Return the PSI that is exceeded in 0.1 % of windows without drift (Wilson-Hilferty)."""
    spread = 2 / (9 * (bins - 1))
    return noise * float((1 - spread + thresholds.normal_quantile * spread**0.5) ** 3)


def window(values: Floats, minutes: int) -> Floats:
    """Return the sum over the last minutes, at every minute; values (minutes, ...)."""
    total = np.cumsum(values, axis=0)
    total[minutes:] -= total[:-minutes].copy()
    return total


def ago(values: Floats, minutes: int) -> Floats:
    """Return what values (minutes, ...) were so many minutes before; NaN where nothing was."""
    past = np.full_like(values, np.nan)
    past[minutes:] = values[:-minutes]
    return past


class Statistics:
    """The recorded series of one signal."""

    def __init__(
        self, minutes: Minutes, training: Training, thresholds: Thresholds = THRESHOLDS
    ) -> None:
        self._minutes = minutes
        self._training = training
        self._thresholds = thresholds
        self._bins = len(training.counts)
        self._counts = {name: window(minutes.counts, size) for name, size in WINDOWS.items()}
        self._rows = {name: counts.sum(axis=1) for name, counts in self._counts.items()}
        self._ratios = {name: smooth(counts) for name, counts in self._counts.items()}

    @cached_property
    def effective_rows(self) -> dict[str, Floats]:
        """Return the rows of each window over its design effect."""
        return {name: self._rows[name] / self.design_effect(name) for name in WINDOWS}

    def design_effect(self, name: str) -> Floats:
        """Return how many rows of a window weigh as much as an independent one, 1 at least."""
        effect = np.maximum(self._overdispersion(name), 1)
        if name in self._minutes.repeats:
            repeats = window(self._minutes.repeats[name], WINDOWS[name])
            effect = np.maximum(effect, 1 + 2 * repeats / np.maximum(self._rows[name], 1))
        return np.asarray(effect)

    def _overdispersion(self, name: str) -> Floats:
        """Return how much more neighbouring minutes differ than independent rows would."""
        ratio, q = self._ratios[name], self._training.ratio
        spread = 2 / (9 * (len(q) - 1))
        quartile = (1 - spread + _QUARTILE * spread**0.5) ** 3
        independent = (ratio * (1 - ratio) / q).sum(axis=1) * quartile
        # A window of n minutes has n - 1 pairs of neighbours.
        pairs = pd.Series(self._variation).rolling(WINDOWS[name] - 1, min_periods=1)
        variation: Floats = pairs.quantile(0.75).to_numpy()
        return np.asarray(np.nan_to_num(variation / independent))

    @cached_property
    def _variation(self) -> Floats:
        """Return chi-squared between each minute and the one before, NaN where one has no rows."""
        counts = self._minutes.counts
        rows = counts.sum(axis=1)
        rows = np.where(rows > 0, rows, np.nan)
        squares = np.diff(counts / rows[:, None], axis=0) ** 2 / self._training.ratio
        found = squares.sum(axis=1) / (1 / rows[1:] + 1 / rows[:-1])
        return np.concatenate([[np.nan], found])

    def reference_ratio(self, reference: str) -> Floats:
        """Return the shares of a reference of the hour (1 or minutes, bins)."""
        if reference == "training":
            return self._training.ratio[None]
        return ago(self._ratios["1h"], PAST[reference])

    def reference_rows(self, reference: str) -> Floats:
        """Return the effective rows of a reference (minutes,), NaN where they are too few."""
        if reference == "training":
            return np.full(len(self._minutes.z), self._training.counts.sum())
        rows = ago(self.effective_rows["1h"], PAST[reference])
        return np.where(rows >= self._thresholds.rows, rows, np.nan)

    def sampling_variance(self, name: str, reference: str) -> Floats:
        """Return the variance of the difference of two samples' means, for σ = 1."""
        rows = np.maximum(self.effective_rows[name], 1e-9)
        return 1 / self.reference_rows(reference) + 1 / rows

    def compare(self, name: str, reference: str) -> Comparison:
        """Compare the distribution of a window with a reference."""
        variance = self.sampling_variance(name, reference)
        psi = divergence(self.reference_ratio(reference), self._ratios[name])
        return Comparison(np.where(np.isnan(variance), np.nan, psi), variance, self._bins)

    def verdict(self, name: str, reference: str = "training") -> Floats:
        """Return 1 drift, 0 none, NaN cannot tell."""
        comparison = self.compare(name, reference)
        return comparison.verdict(self.effective_rows[name], self._thresholds)

    @cached_property
    def rows(self) -> dict[str, Floats]:
        """Return the rows of each window, NaN without any."""
        return {name: np.where(rows > 0, rows, np.nan) for name, rows in self._rows.items()}

    @cached_property
    def means(self) -> dict[str, Floats]:
        """Return the mean of z over each window, NaN without rows."""
        return {n: window(self._minutes.z, size) / self.rows[n] for n, size in WINDOWS.items()}

    @cached_property
    def variances(self) -> dict[str, Floats]:
        """Return the variance of z over each window."""
        squares = {n: window(self._minutes.z_squared, size) for n, size in WINDOWS.items()}
        return {n: each / self.rows[n] - self.means[n] ** 2 for n, each in squares.items()}

    def changed(self, statistic: str, reference: str) -> Floats:
        """Return 1 where a statistic of the hour changed since the reference, 0 where it did not.

        NaN with too few rows, or no reference.
        """
        if statistic == "psi":
            return self.verdict("1h", reference)
        sampling_variance = self.sampling_variance("1h", reference)
        found = getattr(self, f"_{statistic}_changed")(reference, sampling_variance)
        enough = self.effective_rows["1h"] >= self._thresholds.rows
        return np.where(enough & np.isfinite(sampling_variance), found, np.nan)

    def _mean_changed(self, reference: str, sampling_variance: Floats) -> Flags:
        mean = self.means["1h"]
        shift = np.abs(mean - _or(mean, reference, 0.0))
        error = np.sqrt(sampling_variance * np.maximum(self.variances["1h"], 0))
        return np.asarray((shift > self._thresholds.mean) & (shift > self._thresholds.z * error))

    def _variance_changed(self, reference: str, sampling_variance: Floats) -> Flags:
        """Judge the logarithm, whose variance is (kurtosis - 1) / n."""
        variance = self.variances["1h"]
        change = np.abs(np.log(variance / _or(variance, reference, 1.0)))
        error = np.sqrt(sampling_variance * (self._training.kurtosis - 1))
        limit = self._thresholds
        return np.asarray((change > limit.log_variance) & (change > limit.z * error))

    def _bin_changed(self, reference: str, sampling_variance: Floats) -> Flags:
        q = self.reference_ratio(reference)
        gain = self._ratios["1h"] - q
        error = np.sqrt(q * (1 - q) * sampling_variance[:, None])
        limit = self._thresholds
        return np.asarray(((gain > limit.bin_gain) & (gain > limit.z_bin * error)).any(axis=1))


class Correlation:
    """The recorded series of one pair of signals, from Σ of the products of z (minutes,)."""

    def __init__(
        self,
        signals: tuple[Statistics, Statistics],
        products: Floats,
        training: Pair,
        thresholds: Thresholds = THRESHOLDS,
    ) -> None:
        self._signals = signals
        self.products = products
        self.training = training
        self._thresholds = thresholds

    @cached_property
    def correlation(self) -> dict[str, Floats]:
        """Return the correlation over each window, NaN without rows or without variance."""
        return {name: self._correlation(name, size) for name, size in WINDOWS.items()}

    def _correlation(self, name: str, minutes: int) -> Floats:
        first, second = self._signals
        product = window(self.products, minutes) / first.rows[name]
        covariance = product - first.means[name] * second.means[name]
        variances = first.variances[name] * second.variances[name]
        return np.asarray(covariance / np.sqrt(np.where(variances > _NONE, variances, np.nan)))

    def effective_rows(self, name: str) -> Floats:
        """Return the rows of a window over the larger one of both design effects."""
        return np.minimum(*(each.effective_rows[name] for each in self._signals))

    def changed(self, name: str, reference: str) -> Floats:
        """Return 1 where the correlation of a window changed since the reference, 0 where not.

        NaN with too few rows, no reference, or another variance.
        """
        limit, rows = self._thresholds, self.effective_rows(name)
        correlation, reference_rows = self._reference(name, reference)
        error = np.sqrt(
            self.training.variance
            * (
                1 / np.where(reference_rows >= limit.rows, reference_rows, np.nan)
                + 1 / np.where(rows >= limit.rows, rows, np.nan)
            )
        )
        change = np.abs(self.correlation[name] - correlation)
        found = (change > limit.correlation) & (change > limit.z_correlation * error)
        known = np.isfinite(error) & self._has_training_variance(name)
        return np.where(known, found, np.nan)

    def _reference(self, name: str, reference: str) -> tuple[Floats, Floats]:
        """Return the correlation of a reference and its rows, each (minutes,)."""
        if reference == "training":
            shape, training = self.products.shape, self.training
            return np.full(shape, training.correlation), np.full(shape, float(training.rows))
        minutes = PAST[reference]
        return ago(self.correlation[name], minutes), ago(self.effective_rows(name), minutes)

    def _has_training_variance(self, name: str) -> Flags:
        variances = (np.maximum(each.variances[name], _NONE) for each in self._signals)
        logarithms = [np.abs(np.log(each)) for each in variances]
        return np.asarray(np.max(logarithms, axis=0) <= self._thresholds.log_variance)


STATISTICS = ("psi", "mean", "variance", "bin")


def _or(values: Floats, reference: str, in_training: float) -> Floats:
    """Return what a statistic was at the reference."""
    if reference == "training":
        return np.full_like(values, in_training)
    return ago(values, PAST[reference])


def feature_drift(series: Statistics, thresholds: Thresholds = THRESHOLDS) -> Flags:
    """Return at which minutes the expression of FeatureDrift holds.

    The alert is evaluated every minute on what its group recorded last, and so are those below.
    """
    hour = series.compare("1h", "training")
    has_a_day = np.arange(len(hour.psi)) >= DAY
    is_large = hour.psi - hour.noise > thresholds.effect_first_day
    agrees = (series.verdict("1h") == 1) & (series.verdict("1d") == 1)
    holds = np.asarray(agrees & (is_large | has_a_day) & ~_is_weekly(series))
    return _now_and_then(holds, thresholds.statistics_interval)


def _is_weekly(series: Statistics) -> Flags:
    """Return at which minutes the hour is as it was a week ago, and the day was as in training."""
    was_as_trained = ago(series.verdict("1d"), BETWEEN) == 0
    return np.asarray((series.verdict("1h", "last_week") == 0) & was_as_trained)


def feature_drift_sudden(
    series: Statistics, statistic: str, thresholds: Thresholds = THRESHOLDS
) -> Flags:
    """Return at which minutes the expression of FeatureDriftSudden holds for one statistic."""
    changed = {name: series.changed(statistic, name) for name in ("training", *PAST)}
    since_yesterday = (changed["training"] == 1) & (changed["yesterday"] == 1)
    return _sudden(since_yesterday & (changed["last_week"] != 0), thresholds)


def correlation_drift(series: Correlation, thresholds: Thresholds = THRESHOLDS) -> Flags:
    """Return at which minutes the expression of CorrelationDrift holds."""
    changed = {name: series.changed("1h", name) for name in ("training", *PAST)}
    is_sudden = (changed["yesterday"] == 1) & (changed["last_week"] != 0)
    lasts = series.changed("1d", "training") == 1
    return _sudden((changed["training"] == 1) & (lasts | is_sudden), thresholds)


def _sudden(holds: Flags, thresholds: Thresholds) -> Flags:
    """Return at every minute what the group `sudden` recorded last, from the statistics then."""
    statistics = _now_and_then(holds, thresholds.statistics_interval)
    return _now_and_then(statistics, thresholds.sudden_interval)


def _now_and_then(holds: Flags, interval: int) -> Flags:
    """Return at every minute what a group recorded last that is evaluated now and then."""
    return np.repeat(holds[::interval], interval)[: len(holds)]


def firing(condition: Flags, wait: int, keep: int) -> Iterator[Interval]:
    """Yield from when to when an alert fires, by `for` and `keep_firing_for` in minutes.

    The end is excluded. The alert is evaluated every minute.
    """
    edges = np.flatnonzero(np.diff(condition.astype(np.int8), prepend=0, append=0))
    start = end = -1
    for begins, ends in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
        if begins <= end:
            end = ends + keep
        elif ends - begins > wait:
            if start >= 0:
                yield start, end
            start, end = begins + wait, ends + keep
    if start >= 0:
        yield start, end


def alerts(
    minutes: Minutes, training: Training, thresholds: Thresholds = THRESHOLDS
) -> dict[str, list[Interval]]:
    """Return by alert, and by statistic for the sudden ones, when it fires."""
    return signal_alerts(Statistics(minutes, training, thresholds), thresholds)


def signal_alerts(
    series: Statistics, thresholds: Thresholds = THRESHOLDS
) -> dict[str, list[Interval]]:
    """Return the same for what is recorded."""
    keep = thresholds.keep_firing_for
    found = {
        f"sudden {name}": [
            *firing(feature_drift_sudden(series, name, thresholds), thresholds.sudden_for, keep)
        ]
        for name in STATISTICS
    }
    drift = firing(feature_drift(series, thresholds), thresholds.drift_for, keep)
    return {"drift": [*drift], **found}


def pair_alerts(series: Correlation, thresholds: Thresholds = THRESHOLDS) -> list[Interval]:
    """Return when CorrelationDrift fires."""
    holds = correlation_drift(series, thresholds)
    return [*firing(holds, thresholds.correlation_for, thresholds.keep_firing_for)]
