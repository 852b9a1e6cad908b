"""Every series that the drift rules record equals NumPy and SciPy on the same counters, to 1e-6."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from bundle.arrays import Floats
from tests.support.drift import Drift, chi_squared_critical, design_effect, drift, smoothed
from tests.support.promtool import RULES, absent, check, equals, series, started

HOUR, DAY = 60, 24 * 60
WINDOWS = {"1h": HOUR, "1d": DAY}
DECILES = np.array([131, 125, 140, 118, 128, 133, 120, 137, 124, 126.0])
HOUR_WINDOW, TRAINING = {"window": "1h"}, {"reference": "training"}
SIGNAL = {"job": "model", "model": "loans", "version": "a", "feature": "amount"}


@dataclass(frozen=True)
class Signal:
    """One feature of one version, and what each scrape found new on each pod.

    rows: (scrapes, pods, bins); z: (scrapes, pods, signs), sums of z above 0 and of -z below.
    """

    rows: Floats
    z: Floats
    reference: Floats = field(default_factory=DECILES.copy)
    name: str = "amount"
    version: str = "a"
    last_bin: str = "09"
    scrapes_a_minute: int = 4

    @property
    def labels(self) -> dict[str, str]:
        """Return the labels of a statistic: exactly these."""
        return SIGNAL | {"version": self.version, "feature": self.name}

    @property
    def bins(self) -> list[dict[str, str]]:
        """Return the labels of each bin."""
        names = [f"{index:02}" for index in range(len(self.reference) - 1)] + [self.last_bin]
        return [self.labels | {"bin": name} for name in names]

    def inputs(self) -> Iterator[dict[str, str]]:
        """Yield what every pod exports, each under target labels of its own."""
        ratios = smoothed(self.reference)
        for pod in range(self.rows.shape[1]):
            target = {"instance": f"{pod}:8001", "pod": f"model-{pod}", "zone": f"z{pod % 2}"}
            for index, bin_ in enumerate(self.bins):
                counter = self.rows[:, pod, index].cumsum()
                yield series("model_feature_bin_total", bin_ | target, counter)
                fact = target | bin_ | {"range": f"bin {index}"}
                ratio = np.full(len(counter), ratios[index])
                yield series("model_feature_reference_ratio", fact, ratio)
            rows = np.full(len(self.rows), self.reference.sum())
            yield series("model_feature_reference_rows", self.labels | target, rows)
            for index, sign in enumerate(("pos", "neg")):
                sums = self.z[:, pod, index].cumsum()
                labels = self.labels | target | {"sign": sign}
                yield series("model_feature_zscore_sum_total", labels, sums)
            squares = self.squares[:, pod].cumsum()
            squared = "model_feature_zscore_squared_sum_total"
            yield series(squared, self.labels | target, squares)
            yield series(*started(target, len(counter)))

    def window(self, window: str, minute: int) -> tuple[Floats, Floats, Floats]:
        """Return rows by bin, Σz by sign and Σz² of the window that ends at `minute`."""
        parts = (self.rows, self.z, self.squares)
        rows, z, squares = (self.scraped(part, WINDOWS[window], minute) for part in parts)
        return rows.sum(axis=(0, 1)), z.sum(axis=(0, 1)), squares.sum(axis=(0, 1))

    @property
    def squares(self) -> Floats:
        """Return Σz² (scrapes, pods): any numbers do."""
        return np.asarray(self.z.sum(axis=2) ** 2 + 1)

    def scraped(self, found: Floats, minutes: int, minute: int) -> Floats:
        """Return what the scrapes of the last `minutes` before `minute` found new."""
        # The rules look back by 15 s: the scrape at `minute` itself is not in yet.
        end = minute * self.scrapes_a_minute
        return found[max(0, end - minutes * self.scrapes_a_minute) : end]

    def by_minute(self, window: str, minute: int) -> Floats:
        """Return rows (minutes, bins) of the window that ends at `minute`."""
        rows = self.scraped(self.rows, WINDOWS[window], minute).sum(axis=1)
        return np.asarray(rows.reshape(-1, self.scrapes_a_minute, rows.shape[1]).sum(axis=1))

    def judged(self, window: str, minute: int) -> Drift:
        """Return the statistics of the window that ends at `minute`, against training."""
        minutes = self.by_minute(window, minute)
        effect = design_effect(minutes, self.reference)
        return drift(minutes.sum(axis=0), self.reference, effect)

    def moments(self, window: str, minute: int) -> tuple[float, float]:
        """Return mean and variance of z over the rows that have a value."""
        _, (above, below), squares = self.window(window, minute)
        present = self.with_value(window, minute)
        mean = (above - below) / present
        return mean, squares / present - mean**2

    def with_value(self, window: str, minute: int) -> float:
        """Return the rows that have a value."""
        rows, *_ = self.window(window, minute)
        return float(rows[:-1].sum() if self.last_bin == "missing" else rows.sum())

    def expected(self, window: str, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record of the window that ends at `minute`."""
        judged, (mean, variance) = self.judged(window, minute), self.moments(window, minute)
        of_window = {
            "rows": judged.rows,
            "rows_with_value": self.with_value(window, minute),
            "design_effect": judged.rows / judged.effective_rows,
            "effective_rows": judged.effective_rows,
            "bins": len(self.reference),
        }
        against_training = {
            "psi": judged.psi,
            "psi_noise": judged.psi_noise,
            "psi_critical": judged.psi_critical,
            "mean_shift_sigma": mean,
            "variance_ratio": variance,
            "verdict": judged.verdict,
            "reference_rows": self.reference.sum(),
        }
        labels = self.labels | {"window": window}
        for name, value in of_window.items():
            yield equals(f"model_feature:{name}", labels, value, minute)
        for name, value in against_training.items():
            yield equals(f"model_feature:{name}", labels | TRAINING, value, minute)
        rows, *_ = self.window(window, minute)
        shares = zip(self.bins, smoothed(rows), smoothed(self.reference), strict=True)
        for bin_, ratio, trained in shares:
            there = bin_ | {"window": window}
            yield equals("model_feature_bin:ratio", there, ratio, minute)
            yield equals("model_feature_bin:reference_ratio", there | TRAINING, trained, minute)


def traffic(
    seed: int, minutes: int, shares: Floats, pods: int = 2, scrapes: int = 4
) -> tuple[Floats, Floats]:
    """Return Poisson rows (4 a scrape and pod) that fall into bins by `shares`, and z sums."""
    rng = np.random.default_rng(seed)
    size = (minutes * scrapes + 1, pods)
    rows = rng.poisson(4 * shares / shares.sum(), (*size, len(shares)))
    return rows.astype(float), rng.gamma(4, 0.4, (*size, 2))


def verify(folder: Path, signals: list[Signal], minutes: dict[str, list[int]]) -> None:
    """Compare all that is recorded of `signals` at the minutes of each window."""
    check(
        folder,
        "15s" if signals[0].scrapes_a_minute == 4 else "1m",
        [entry for signal in signals for entry in signal.inputs()],
        [
            entry
            for window, ends in minutes.items()
            for end in ends
            for signal in signals
            for entry in signal.expected(window, end)
        ],
    )


def test_hour_equals_numpy_for_pods_versions_and_merged_bins(tmp_path: Path) -> None:
    """Two versions side by side, three features, two pods: each is judged on its own rows."""
    shifted = DECILES * np.linspace(0.3, 1.7, 10)
    merged, missing = np.array([700, 300, 282.0]), np.array([400, 400, 400, 82.0])
    signals = [
        Signal(*traffic(1, 130, DECILES)),
        Signal(*traffic(2, 130, shifted), version="b"),
        Signal(*traffic(3, 130, merged), merged, "sulphates", last_bin="02"),
        Signal(*traffic(4, 130, missing), missing, "ph", last_bin="missing"),
        Signal(*traffic(5, 130, shifted, pods=3), name="prediction", version="b"),
    ]

    verify(tmp_path, signals, {"1h": [7, 60, 61, 130], "1d": [130]})

    verdicts = [signal.judged("1h", 130).verdict for signal in signals]
    assert verdicts == [0, 1, 0, 0, 1]


def test_day_equals_numpy(tmp_path: Path) -> None:
    """The 1 d window is the sum of its minutes, before, at and after it is full."""
    signal = Signal(
        *traffic(6, DAY + 90, DECILES, pods=1, scrapes=1), scrapes_a_minute=1, name="density"
    )

    verify(tmp_path, [signal], {"1d": [600, DAY, DAY + 1, DAY + 90], "1h": [DAY + 90]})


@pytest.mark.parametrize(
    ("rows", "tilt", "verdict"),
    [
        pytest.param(199, 0.60, -1, id="too few rows"),
        pytest.param(202, 0.54, 0, id="large, but chance may explain it"),
        pytest.param(200, 0.60, 1, id="large and significant"),
        pytest.param(5000, 0.48, 0, id="significant, but too small"),
        pytest.param(5000, 0.50, 1, id="significant and just large enough"),
    ],
)
def test_verdict_needs_rows_effect_and_significance(
    tmp_path: Path, rows: int, tilt: float, verdict: int
) -> None:
    """Each of the three conditions alone withholds the verdict of drift."""
    shares = 1 + tilt * np.linspace(-1, 1, 10)
    counts = np.floor(rows * shares / shares.sum())
    counts[-1] += rows - counts.sum()
    burst = np.zeros((41, 1, 10))
    burst[20, 0] = counts
    signal = Signal(burst, np.ones((41, 1, 2)))

    verify(tmp_path, [signal], {"1h": [10]})

    assert drift(counts, DECILES).verdict == verdict


def test_one_failed_scrape_does_not_blind_the_verdict(tmp_path: Path) -> None:
    """The verdict stands while a scrape fails, and ends ten minutes after the version is gone."""
    signal = Signal(*traffic(7, 50, DECILES, pods=1))
    inputs = list(signal.inputs())
    for entry in inputs:
        samples = entry["values"].split()
        samples[119:121] = ["stale"] * 2
        samples[141:] = ["stale"]
        entry["values"] = " ".join(samples)
    labels = signal.labels | HOUR_WINDOW | TRAINING

    check(
        tmp_path,
        "15s",
        inputs,
        [
            equals("model_feature:verdict", labels, 0, 30),
            equals("model_feature:verdict", labels, 0, 35),
            equals("model_feature:verdict", labels, 0, 43),
            absent("model_feature:verdict", labels, 47),
        ],
    )


def test_no_rows_are_no_statistic(tmp_path: Path) -> None:
    """Without a row there is no PSI and no mean, neither NaN nor infinite."""
    signal = Signal(np.zeros((81, 2, 10)), np.zeros((81, 2, 2)))
    statistics = ("psi", "psi_noise", "psi_critical", "mean_shift_sigma", "variance_ratio")
    windows = [signal.labels | {"window": window} for window in WINDOWS]

    check(
        tmp_path,
        "15s",
        list(signal.inputs()),
        [
            *(equals("model_feature:rows", labels, 0, 20) for labels in windows),
            *(equals("model_feature:verdict", labels | TRAINING, -1, 20) for labels in windows),
            *(
                absent(f"model_feature:{name}", labels | TRAINING, 20)
                for name in statistics
                for labels in windows
            ),
        ],
    )


def test_reference_of_another_version_is_no_reference(tmp_path: Path) -> None:
    """Rows of one version are never compared with the training of another."""
    rows, z = traffic(9, 30, DECILES)
    live = [e for e in Signal(rows, z).inputs() if "reference" not in e["series"]]
    other = [e for e in Signal(rows, z, version="b").inputs() if "reference" in e["series"]]

    check(
        tmp_path,
        "15s",
        live + other,
        [
            equals("model_feature:verdict", SIGNAL | HOUR_WINDOW | TRAINING, -1, 30),
            absent("model_feature:psi", SIGNAL | HOUR_WINDOW | TRAINING, 30),
            absent("model_feature:verdict", SIGNAL | HOUR_WINDOW | {"version": "b"}, 30),
        ],
    )


def test_same_hour_of_yesterday_is_a_reference_like_training(tmp_path: Path) -> None:
    """PSI, noise, shift and spread against the rows of an hour ago a day, with their own number."""
    signal = Signal(
        *traffic(12, DAY + 90, DECILES, pods=2, scrapes=1), scrapes_a_minute=1, name="density"
    )
    before, now = signal.by_minute("1h", 90), signal.by_minute("1h", DAY + 90)
    m = before.sum() / design_effect(before, signal.reference)
    # Smoothed once more, as a reference is: half a row in each bin is in its ratio already.
    shares = smoothed(before.sum(axis=0)) * (before.sum() + 0.5 * before.shape[1]) - 0.5
    judged = drift(now.sum(axis=0), shares, design_effect(now, signal.reference), m)
    (mean, variance), (mean_before, variance_before) = (
        signal.moments("1h", minute) for minute in (DAY + 90, 90)
    )
    values = {
        "psi": judged.psi,
        "psi_noise": judged.psi_noise,
        "psi_critical": judged.psi_critical,
        "verdict": judged.verdict,
        "mean_shift_sigma": mean - mean_before,
        "variance_ratio": variance / variance_before,
        "reference_rows": m,
    }
    labels = signal.labels | HOUR_WINDOW | {"reference": "yesterday"}

    check(
        tmp_path,
        "1m",
        list(signal.inputs()),
        [
            *(equals(f"model_feature:{n}", labels, v, DAY + 90) for n, v in values.items()),
            absent("model_feature:psi", labels, DAY),
        ],
    )


def clustered(seed: int, minutes: int, repeat: int) -> Floats:
    """Return rows (scrapes, pods, bins) of which each comes `repeat` times in the same scrape."""
    return repeat * traffic(seed, minutes, DECILES / repeat)[0]


@pytest.mark.parametrize("repeat", [1, 10])
def test_design_effect_is_how_often_each_row_comes(tmp_path: Path, repeat: int) -> None:
    """Rows that come ten times at once count once: noise and critical value grow tenfold."""
    signal = Signal(clustered(13, 70, repeat), traffic(13, 70, DECILES)[1])

    verify(tmp_path, [signal], {"1h": [70]})

    effect = design_effect(signal.by_minute("1h", 70), DECILES)
    assert effect == pytest.approx(repeat, rel=0.1)


def test_repeats_that_the_minutes_do_not_show_count(tmp_path: Path) -> None:
    """Each row comes five times over the hour, to two replicas that see half of the repeats."""
    signal = Signal(*traffic(14, 70, DECILES), name="prediction")
    found = signal.rows.sum(axis=2)
    facts = SIGNAL | {"algorithm": "trees"}
    del facts["feature"]
    inputs = list(signal.inputs())
    for pod in range(2):
        target = {"instance": f"{pod}:8001", "pod": f"model-{pod}"}
        labels = {key: facts[key] for key in ("job", "model", "version")} | target
        # Five times is 2 earlier occurrences of each row on average: here a half of them.
        repeats = found[:, pod].cumsum()
        # The day knows of more of them, which are not the hour's.
        for span, factor in (("1h", 1), ("1d", 24)):
            counted = labels | {"span": span}
            inputs.append(series("model_feature_repeats_total", counted, factor * repeats))
        inputs.append(series("model_info", facts | target, np.ones(len(found))))
    rows = signal.by_minute("1h", 70).sum()
    labels = signal.labels | HOUR_WINDOW

    check(
        tmp_path,
        "15s",
        inputs,
        [
            equals("model_feature:design_effect", labels, 5, 70),
            equals("model_feature:effective_rows", labels, rows / 5, 70),
        ],
    )


CHANGES = {
    # rows per bin in a scrape of each pod, mean of z, variance of z, what changed
    "nothing": (DECILES, 0.0, 1.0, set()),
    "mean": (DECILES, 0.4, 1.0, {"mean"}),
    "small mean": (DECILES, 0.25, 1.0, set()),
    "spread": (DECILES, 0.0, 1.6, {"variance"}),
    "narrow": (DECILES, 0.0, 0.7, {"variance"}),
    "stuck": (DECILES + 120 * np.eye(10)[3], 0.0, 1.0, {"bin"}),
    "shape": (DECILES * np.linspace(0.3, 1.7, 10), 0.0, 1.0, {"psi", "bin"}),
}


@pytest.mark.parametrize(("shares", "mean", "variance", "changed"), CHANGES.values(), ids=CHANGES)
def test_change_of_a_statistic_is_seen_by_its_own_rule(
    tmp_path: Path, shares: Floats, mean: float, variance: float, changed: set[str]
) -> None:
    """Against training: each statistic that moved by more than its threshold, and no other."""
    rows = np.tile(shares / shares.sum() * 40, (281, 1, 1))
    each = rows.sum(axis=2)[:, :, None]
    # Σ of the positive and of the negative parts: their difference is the mean.
    signal = Signal(rows, each * np.array([0.4 + mean, 0.4]))
    moments = series(
        "model_feature_zscore_squared_sum_total",
        signal.labels | {"instance": "0:8001", "pod": "model-0", "zone": "z0"},
        (each[:, 0, 0] * (variance + mean**2)).cumsum(),
    )
    kurtosis = series(
        "model_feature_reference_kurtosis",
        signal.labels | {"instance": "0:8001"},
        np.full(281, 3.0),
    )
    labels = signal.labels | HOUR_WINDOW | TRAINING

    check(
        tmp_path,
        "15s",
        [*signal.inputs(), moments, kurtosis],
        [
            equals("model_feature:changed", labels | {"statistic": name}, name in changed, 70)
            for name in ("psi", "mean", "variance", "bin")
        ],
    )


def test_every_series_that_is_recorded_is_compared() -> None:
    """What the tests above compare is what the rules record of a feature, no more and no less."""
    signal = Signal(*traffic(0, 20, DECILES))
    compared = {re.findall(r"abs\(([\w:]+)", case["expr"])[0] for case in signal.expected("1h", 20)}
    # Steps on the way to the design effect, the sampling variance to noise and critical value.
    steps = {
        f"model_feature:{name}"
        for name in ("minute_rows", "minute_variation", "variation", "sampling_variance")
    }
    groups = yaml.safe_load((RULES / "statistics.yml").read_text())["groups"]
    recorded = [rule for group in groups for rule in group["rules"]]

    assert {rule["record"] for rule in recorded if rule["record"].startswith("model_feature")} == {
        *compared,
        *steps,
        "model_feature:changed",
    }


@pytest.mark.parametrize("degrees", range(1, 30))
def test_wilson_and_hilferty_err_on_the_strict_side(degrees: int) -> None:
    """The critical value is the chi-squared quantile at the 0.1 % level or a little above it."""
    exact = stats.chi2.isf(0.001, degrees)

    assert exact < chi_squared_critical(degrees) < exact * (1.007 if degrees >= 9 else 1.031)
