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
from tests.support.drift import chi_squared_critical, drift, smoothed
from tests.support.promtool import RULES, absent, check, equals, series

HOUR, DAY = 60, 24 * 60
WINDOWS = {"1h": HOUR, "1d": DAY}
DECILES = np.array([131, 125, 140, 118, 128, 133, 120, 137, 124, 126.0])
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

    def window(self, window: str, minute: int) -> tuple[Floats, Floats]:
        """Return the rows per bin and the z sums of the window that ends at `minute`."""
        rows: Floats = self.scraped(self.rows, WINDOWS[window], minute).sum(axis=(0, 1))
        z: Floats = self.scraped(self.z, WINDOWS[window], minute).sum(axis=(0, 1))
        return rows, z

    def scraped(self, found: Floats, minutes: int, minute: int) -> Floats:
        """Return what the scrapes of the last `minutes` before `minute` found new."""
        # The rules look back by 15 s: the scrape at `minute` itself is not in yet.
        end = minute * self.scrapes_a_minute
        # What the first scrape found is the baseline: nobody knows when it came.
        return found[max(1, end - minutes * self.scrapes_a_minute) : end]

    def expected(self, window: str, minute: int) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record of the window that ends at `minute`."""
        rows, (above, below) = self.window(window, minute)
        judged = drift(rows, self.reference)
        present = rows[:-1].sum() if self.last_bin == "missing" else rows.sum()
        values = {
            "rows": judged.rows,
            "psi": judged.psi,
            "psi_noise": judged.psi_noise,
            "psi_critical": judged.psi_critical,
            "mean_shift_sigma": (above - below) / present,
            "verdict": judged.verdict,
        }
        for name, value in values.items():
            yield equals(f"model_feature:{name}:{window}", self.labels, value, minute)
        for labels, count, ratio in zip(self.bins, rows, smoothed(rows), strict=True):
            yield equals(f"model_feature_bin:rows:{window}", labels, count, minute)
            yield equals(f"model_feature_bin:ratio:{window}", labels, ratio, minute)


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

    verdicts = [drift(signal.window("1h", 130)[0], signal.reference).verdict for signal in signals]
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


def test_counter_that_starts_again_loses_nothing(tmp_path: Path) -> None:
    """A pod that restarts within the hour counts on: 3 rows a scrape, before and after."""
    restarted = np.concatenate([3 * np.arange(161.0), 3 * np.arange(1, 161)])
    labels = SIGNAL | {"bin": "00"}

    check(
        tmp_path,
        "15s",
        [
            series("model_feature_bin_total", labels | {"instance": "0"}, restarted),
            series("model_feature_bin_total", labels | {"instance": "1"}, 7 * np.arange(321.0)),
        ],
        [
            equals("model_feature_bin:rows:1m", labels, 12 + 28, 41),
            equals("model_feature:rows:1h", SIGNAL, 60 * (12 + 28), 80),
        ],
    )


def test_restart_that_overtakes_itself_is_seen(tmp_path: Path) -> None:
    """A young pod restarts, and within the minute counts more than before: nothing is lost."""
    # 0, 4, 8, 12 and again 4, 8, 12, 16: a minute after 12 it is at 16.
    restarted = np.concatenate([4 * np.arange(4.0), 4 * np.arange(1, 38)])
    labels = SIGNAL | {"bin": "00"}
    process = {"job": "model", "model": "loans", "version": "a", "instance": "0"}

    check(
        tmp_path,
        "15s",
        [
            series("model_feature_bin_total", labels | {"instance": "0"}, restarted),
            series("model_predictions_total", process, restarted),
        ],
        [equals("model_feature:rows:1h", SIGNAL, 4 * 39, 10)],
    )


def test_replica_that_goes_and_replica_that_comes_are_counted(tmp_path: Path) -> None:
    """Rows of a pod that left stay in the window; a new one counts from its first scrape."""
    leaves, comes = 5 * np.arange(161.0), 1000 + 2 * np.arange(161.0)
    leaves[83:], comes[:80] = np.nan, np.nan
    labels = SIGNAL | {"bin": "00"}

    check(
        tmp_path,
        "15s",
        [
            series("model_feature_bin_total", labels | {"pod": "old"}, leaves),
            series("model_feature_bin_total", labels | {"pod": "new"}, comes),
        ],
        # The last scrapes of the one that left are extrapolated to a minute, by one scrape.
        [equals("model_feature:rows:1h", SIGNAL, 5 * (82 + 1) + 2 * (159 - 80), 40)],
    )


def test_gap_in_the_scrapes_is_not_made_up(tmp_path: Path) -> None:
    """After ten minutes without a scrape the counter's total is not taken for new rows."""
    counter = 10_000 + 4 * np.arange(241.0)
    counter[100:140] = np.nan
    labels = SIGNAL | {"bin": "00"}

    check(
        tmp_path,
        "15s",
        [series("model_feature_bin_total", labels, counter)],
        [equals("model_feature:rows:1h", SIGNAL, 4 * (99 + 239 - 140), 60)],
    )


def test_one_failed_scrape_does_not_blind_the_verdict(tmp_path: Path) -> None:
    """The verdict stands while a scrape fails, and ends when the version is gone."""
    signal = Signal(*traffic(7, 40, DECILES, pods=1))
    inputs = list(signal.inputs())
    for entry in inputs:
        samples = entry["values"].split()
        samples[119:121] = ["stale"] * 2
        samples[141:] = ["stale"]
        entry["values"] = " ".join(samples)

    check(
        tmp_path,
        "15s",
        inputs,
        [
            equals("model_feature:verdict:1h", signal.labels, 0, 30),
            equals("model_feature:verdict:1h", signal.labels, 0, 35),
            absent("model_feature:verdict:1h", signal.labels, 45),
        ],
    )


def test_bin_without_a_live_series_counts_as_empty(tmp_path: Path) -> None:
    """A bin that only the reference has is an empty bin, not one that is left out."""
    rows, z = traffic(8, 30, DECILES, pods=1)
    rows[:, :, 4] = 0
    signal = Signal(rows, z)
    bin_ = 'bin="04"'

    check(
        tmp_path,
        "15s",
        [e for e in signal.inputs() if not ("bin_total" in e["series"] and bin_ in e["series"])],
        [
            e
            for e in signal.expected("1h", 30)
            if not ("bin:rows" in e["expr"] and bin_ in e["expr"])
        ],
    )


def test_no_rows_are_no_statistic(tmp_path: Path) -> None:
    """Without a row there is no PSI and no mean, neither NaN nor infinite: it cannot be told."""
    signal = Signal(np.zeros((81, 2, 10)), np.zeros((81, 2, 2)))
    statistics = ("psi", "psi_noise", "psi_critical", "mean_shift_sigma")

    check(
        tmp_path,
        "15s",
        list(signal.inputs()),
        [equals("model_feature:rows:1h", signal.labels, 0, 20)]
        + [equals(f"model_feature:verdict:{w}", signal.labels, -1, 20) for w in WINDOWS]
        + [
            absent(f"model_feature:{s}:{w}", signal.labels, 20) for s in statistics for w in WINDOWS
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
            equals("model_feature:verdict:1h", SIGNAL, -1, 30),
            absent("model_feature:psi:1h", SIGNAL, 30),
            absent("model_feature:verdict:1h", SIGNAL | {"version": "b"}, 30),
        ],
    )


def parts(signal: Signal, minute: int) -> Iterator[dict[str, Any]]:
    """Yield what the windows are made of: the last minute, and the replicas' one reference."""
    rows = signal.scraped(signal.rows, 1, minute).sum(axis=(0, 1))
    z = signal.scraped(signal.z, 1, minute).sum(axis=(0, 1))
    yield equals("model_feature:bins", signal.labels, len(signal.bins), minute)
    yield equals("model_feature:reference_rows", signal.labels, signal.reference.sum(), minute)
    for sign, value in zip(("pos", "neg"), z, strict=True):
        labels = signal.labels | {"sign": sign}
        yield equals("model_feature_sign:zscore_sum:1m", labels, value, minute)
    for labels, count, ratio in zip(signal.bins, rows, smoothed(signal.reference), strict=True):
        yield equals("model_feature_bin:rows:1m", labels, count, minute)
        yield equals("model_feature_bin:reference_ratio", labels, ratio, minute)


def test_parts_of_the_windows_equal_numpy(tmp_path: Path) -> None:
    """Rows and z sums of the last minute, and one reference whatever the number of pods."""
    signal = Signal(*traffic(10, 12, DECILES))

    check(tmp_path, "15s", list(signal.inputs()), list(parts(signal, 12)))


def test_every_series_that_is_recorded_is_compared() -> None:
    """What the tests above compare is what drift.yml records, no more and no less."""
    signal = Signal(*traffic(0, 20, DECILES))
    compared = [*signal.expected("1h", 20), *signal.expected("1d", 20), *parts(signal, 20)]
    recorded = yaml.safe_load((RULES / "drift.yml").read_text())["groups"][0]["rules"]

    assert {rule["record"] for rule in recorded} == {
        re.findall(r"abs\(([\w:]+)", case["expr"])[0] for case in compared
    }


def test_day_is_computed_as_the_hour() -> None:
    """The rules of the two windows differ in the window only."""
    text = (RULES / "drift.yml").read_text()
    hour, day = text[text.index("# The last hour") :], text[text.index("# The last day") :]
    hour = hour[: hour.index("# The last day")].rstrip(" \n#")

    swaps = {"hour": "day", "1h": "1d", "59m30s": "23h59m30s", ": 60 samples": ": 1440 samples"}
    for one, other in swaps.items():
        hour = hour.replace(one, other)
    assert hour == day.rstrip()


@pytest.mark.parametrize("degrees", range(1, 30))
def test_wilson_and_hilferty_err_on_the_strict_side(degrees: int) -> None:
    """The critical value is the chi-squared quantile at the 0.1 % level or a little above it."""
    exact = stats.chi2.isf(0.001, degrees)

    assert exact < chi_squared_critical(degrees) < exact * (1.007 if degrees >= 9 else 1.05)
