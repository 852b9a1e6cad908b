"""The drift statistics and alerts of prometheus/rules, evaluated every minute on minute counts.

One signal at a time; arrays have a value per minute (minutes,) or per minute and bin (minutes,
bins). What Prometheus lacks is NaN here, and every comparison with it is false.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.arrays import Floats

Flags = NDArray[np.bool_]
Interval = tuple[int, int]

HOUR, DAY, WEEK = 60, 1_440, 10_080
WINDOWS = {"1h": HOUR, "1d": DAY}
# The references of the hour, and how many minutes ago they were.
PAST = {"yesterday": DAY, "last_week": WEEK}

# The upper quartile of the normal distribution.
_QUARTILE = 0.674489750


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
    # Minutes: `for` and `keep_firing_for`.
    drift_for: int = 5
    sudden_for: int = 30
    # How often the group `sudden` is evaluated.
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
    def mean(self) -> Floats:
        """Return the mean of z over the hour, NaN without rows."""
        rows = np.where(self._rows["1h"] > 0, self._rows["1h"], np.nan)
        return window(self._minutes.z, HOUR) / rows

    @cached_property
    def variance(self) -> Floats:
        """Return the variance of z over the hour."""
        rows = np.where(self._rows["1h"] > 0, self._rows["1h"], np.nan)
        return np.asarray(window(self._minutes.z_squared, HOUR) / rows - self.mean**2)

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
        shift = np.abs(self.mean - _or(self.mean, reference, 0.0))
        error = np.sqrt(sampling_variance * np.maximum(self.variance, 0))
        return np.asarray((shift > self._thresholds.mean) & (shift > self._thresholds.z * error))

    def _variance_changed(self, reference: str, sampling_variance: Floats) -> Flags:
        """Judge the logarithm, whose variance is (kurtosis - 1) / n."""
        change = np.abs(np.log(self.variance / _or(self.variance, reference, 1.0)))
        error = np.sqrt(sampling_variance * (self._training.kurtosis - 1))
        limit = self._thresholds
        return np.asarray((change > limit.log_variance) & (change > limit.z * error))

    def _bin_changed(self, reference: str, sampling_variance: Floats) -> Flags:
        q = self.reference_ratio(reference)
        gain = self._ratios["1h"] - q
        error = np.sqrt(q * (1 - q) * sampling_variance[:, None])
        limit = self._thresholds
        return np.asarray(((gain > limit.bin_gain) & (gain > limit.z_bin * error)).any(axis=1))


STATISTICS = ("psi", "mean", "variance", "bin")


def _or(values: Floats, reference: str, in_training: float) -> Floats:
    """Return what a statistic was at the reference."""
    if reference == "training":
        return np.full_like(values, in_training)
    return ago(values, PAST[reference])


def feature_drift(series: Statistics, thresholds: Thresholds = THRESHOLDS) -> Flags:
    """Return at which minutes the expression of FeatureDrift holds."""
    hour = series.compare("1h", "training")
    has_a_day = np.arange(len(hour.psi)) >= DAY
    is_large = hour.psi - hour.noise > thresholds.effect_first_day
    agrees = (series.verdict("1h") == 1) & (series.verdict("1d") == 1)
    return np.asarray(agrees & (is_large | has_a_day))


def feature_drift_sudden(
    series: Statistics, statistic: str, thresholds: Thresholds = THRESHOLDS
) -> Flags:
    """Return at which minutes the expression of FeatureDriftSudden holds for one statistic.

    The alert is evaluated every minute on what its group recorded last.
    """
    changed = {name: series.changed(statistic, name) for name in ("training", *PAST)}
    since_yesterday = (changed["training"] == 1) & (changed["yesterday"] == 1)
    holds = since_yesterday & (changed["last_week"] != 0)
    interval = thresholds.sudden_interval
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
    series = Statistics(minutes, training, thresholds)
    keep = thresholds.keep_firing_for
    found = {
        f"sudden {name}": [
            *firing(feature_drift_sudden(series, name, thresholds), thresholds.sudden_for, keep)
        ]
        for name in STATISTICS
    }
    drift = firing(feature_drift(series, thresholds), thresholds.drift_for, keep)
    return {"drift": [*drift], **found}
