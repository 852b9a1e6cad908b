"""Drift by Prometheus' rules equals NumPy and SciPy on the very same rows.

Two steps. The counters, on one scrape of real workers: bins are integers and must be equal; means
come from sums of z, equal to 1e-6. Then the recorded series of a real Prometheus.

What `increase` permits: a counter's increase over a window is extrapolated to the window's borders,
by up to half a scrape interval at each end, so it is exact only where nothing moved near them; and
increments between the last scrape and the evaluation are not in it yet. The rules avoid it: they
record differences of one minute, which telescope, and sum these over the window. So once every row
has been scraped and evaluated, the recorded rows are the rows that were sent, to the last one, and
PSI and mean shift have no other error than float64's. The tolerance is 1e-9 (PSI, noise) and 1e-6
(mean shift), relative. The critical value is Wilson and Hilferty's, within 0.7 % of SciPy's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from scipy.stats import chi2

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Manifest, Reference
from tests.service.conftest import MINUTE_SECONDS
from tests.support.example import Row
from tests.support.model import Model, Samples, by_label, total
from tests.support.prometheus import RULES, Prometheus, hurried, running_prometheus
from tests.support.recorded import Recorded, wait_for_rows

BATCH = 500
DRIFTED_A_MINUTE = 420
CRITICAL = 0.999
MIN_ROWS, MIN_EFFECT = 200, 0.1


@dataclass(frozen=True)
class Expected:
    """What NumPy and SciPy say of one signal."""

    counts: Mapping[str, int]
    effective_rows: float
    psi: float
    noise: float
    critical: float
    mean_shift: float

    @property
    def verdict(self) -> int:
        """1 drift, 0 none, -1 cannot tell."""
        if self.effective_rows < MIN_ROWS:
            return -1
        return int(self.psi - self.noise > MIN_EFFECT and self.psi > self.critical)


def expect(
    manifest: Manifest, values: Mapping[str, Floats], effects: Mapping[str, float] | None = None
) -> dict[str, Expected]:
    """Return the statistics of each signal from the values it had, and their design effects."""
    return {
        each.name: _expect(
            each, manifest.rows, values[each.name], (effects or {}).get(each.name, 1)
        )
        for each in manifest.reference
    }


def _expect(reference: Reference, training_rows: int, values: Floats, effect: float) -> Expected:
    counts = np.histogram(values, [-np.inf, *reference.edges, np.inf])[0]
    bins = len(counts)
    trained = np.array([each.count for each in reference.bins])
    p = (counts + 0.5) / (counts.sum() + 0.5 * bins)
    q = (trained + 0.5) / (training_rows + 0.5 * bins)
    scale = effect / len(values) + 1 / training_rows
    return Expected(
        effective_rows=len(values) / effect,
        counts={each.bin: int(n) for each, n in zip(reference.bins, counts, strict=True)},
        psi=float(((p - q) * np.log(p / q)).sum()),
        noise=(bins - 1) * scale,
        critical=float(chi2.ppf(CRITICAL, bins - 1)) * scale,
        mean_shift=float((values.mean() - reference.mean) / reference.sigma),
    )


class Traffic:
    """Rows sent to a model, and the values that each of its signals had."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._sent: list[Row] = []

    def send(self, inputs: Sequence[Row]) -> dict[str, Floats]:
        """Predict rows, on several connections; return the values of these rows by signal."""
        sent = []
        for start in range(0, len(inputs), BATCH):
            instances = inputs[start : start + BATCH]
            # A connection of its own, so that every worker gets some.
            answer = httpx.post(
                f"{self._model.url}/predict/batch", json={"instances": instances}, timeout=60
            )
            predictions = answer.raise_for_status().json()["predictions"]
            sent += [
                {**row, PREDICTION: prediction["quality"]}
                for row, prediction in zip(instances, predictions, strict=True)
            ]
        self._sent += sent
        return columns(sent)

    @property
    def count(self) -> int:
        """Return how many rows were sent."""
        return len(self._sent)

    def sent(self) -> dict[str, Floats]:
        """Return the values of all rows by signal."""
        return columns(self._sent)


def columns(sent: Sequence[Row]) -> dict[str, Floats]:
    """Return rows as one array for each name."""
    return {name: np.array([row[name] for row in sent]) for name in sent[0]}


def difference(after: Samples, before: Samples) -> Samples:
    """Return what counters have grown by."""
    return {key: value - before.get(key, 0.0) for key, value in after.items()}


def check_counters(samples: Samples, wanted: Mapping[str, Expected]) -> None:
    """Compare what counters have grown by: bins exactly, the mean shift to 1e-6."""
    for name, expected in wanted.items():
        bins = by_label(samples, "model_feature_bin_total", "bin", feature=name)
        sums = by_label(samples, "model_feature_zscore_sum_total", "sign", feature=name)
        rows = sum(bins.values())

        assert bins == expected.counts
        assert (sums["pos"] - sums["neg"]) / rows == pytest.approx(expected.mean_shift, rel=1e-6)


def check_pairs(samples: Samples, manifest: Manifest, values: Mapping[str, Floats]) -> None:
    """Compare the mean product of z of each pair that the bundle names, to the last row."""
    scale = {each.name: (each.mean, each.sigma) for each in manifest.reference}
    z = {name: (values[name] - mean) / sigma for name, (mean, sigma) in scale.items()}
    assert manifest.pairs
    for pair in manifest.pairs:
        first, second = pair.features
        sums = by_label(samples, "model_feature_pair_zscore_sum_total", "sign", pair=pair.name)
        rows = total(samples, "model_feature_pair_total", pair=pair.name)

        assert rows == len(values[first])
        assert (sums["pos"] - sums["neg"]) / rows == pytest.approx(
            float((z[first] * z[second]).mean()), rel=1e-9
        )


def report(title: str, recorded: Mapping[str, float], wanted: Mapping[str, Expected]) -> None:
    """Print the table of PSI that pytest shows with -rP or -s."""
    print(f"\n{title}")  # noqa: T201
    print(f"{'feature':<22}{'PSI Prometheus':>16}{'PSI SciPy':>16}{'difference':>12}")  # noqa: T201
    for name, expected in wanted.items():
        off = recorded[name] - expected.psi
        print(f"{name:<22}{recorded[name]:>16.9f}{expected.psi:>16.9f}{off:>12.1e}")  # noqa: T201


def check_recorded(
    recorded: Recorded, manifest: Manifest, values: Mapping[str, Floats], title: str
) -> dict[str, Expected]:
    """Compare every recorded series; the design effect is Prometheus' own, as minutes are."""
    wanted = expect(manifest, values, recorded("design_effect"))
    report(title, recorded("psi"), wanted)
    for statistic, tolerance in (("psi", 1e-9), ("noise", 1e-9), ("critical", 7e-3)):
        series = "psi" if statistic == "psi" else f"psi_{statistic}"
        expected = {name: getattr(each, statistic) for name, each in wanted.items()}
        assert recorded(series) == pytest.approx(expected, rel=tolerance), series
    shifts = {name: each.mean_shift for name, each in wanted.items()}
    assert recorded("mean_shift_sigma") == pytest.approx(shifts, rel=1e-6)
    verdicts = {name: each.verdict for name, each in wanted.items()}
    assert recorded("verdict") == verdicts
    return wanted


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Scrape the model before it has any traffic: a series counts from its first scrape."""
    directory = tmp_path_factory.mktemp("prometheus")
    rules = hurried(RULES, directory / "rules", MINUTE_SECONDS)
    with running_prometheus(directory, {"model": [model.metrics_url]}, rules) as prometheus:
        yield prometheus


def test_drift_is_numpys_and_scipys(
    model: Model,
    prometheus: Prometheus,
    example: Manifest,
    held_out_inputs: list[Row],
    drifted_inputs: list[Row],
) -> None:
    """Held-out rows: all statistics equal, verdict none. Drifted rows: drift for nine features."""
    traffic, untouched = Traffic(model), model.scrape()
    assert total(untouched, "model_predictions_total") == 0

    sent = traffic.send(held_out_inputs)
    after_usual = model.scrape()
    check_counters(difference(after_usual, untouched), expect(example, sent))
    check_pairs(difference(after_usual, untouched), example, sent)
    recorded = wait_for_rows(prometheus, len(held_out_inputs))
    usual = check_recorded(recorded, example, sent, f"{len(held_out_inputs)} held-out rows")
    assert {name: each.verdict for name, each in usual.items()} == dict.fromkeys(usual, 0)

    # A dozen minutes of them: few minutes that differ look like clusters, and not like a drift. The
    # two features that differ most still do.
    for start in range(0, len(drifted_inputs), DRIFTED_A_MINUTE):
        sent = traffic.send(drifted_inputs[start : start + DRIFTED_A_MINUTE])
        recorded = wait_for_rows(prometheus, traffic.count)
    check_counters(difference(model.scrape(), untouched), expect(example, traffic.sent()))
    everything = check_recorded(
        recorded, example, traffic.sent(), f"and then {len(drifted_inputs)} drifted rows"
    )
    drifted = {name for name, each in everything.items() if each.verdict == 1}
    blind = {name for name, each in everything.items() if each.verdict == -1}
    assert len(drifted - {PREDICTION}) >= 9
    assert len(drifted | blind) >= 11
