"""The counters of pairs give NumPy's correlation, to the last row."""

from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.manifest import Feature, Manifest
from serving.metrics.distributions import MAX_ABSOLUTE_Z
from serving.metrics.predictions import ModelMetrics
from tests.support.bundles import make_manifest, read_metrics
from tests.support.model import Samples, by_label

FEATURES = tuple(
    Feature(name=name, description="", nullable=name == "c and d") for name in ("a", "b", "c and d")
)


def values(rows: int, seed: int) -> Floats:
    """Return correlated values (rows, 3), some of the last column missing."""
    random = np.random.default_rng(seed)
    found = 5 + random.normal(size=(rows, 1)) + random.normal(size=(rows, 3))
    found[::7, 2] = np.nan
    return np.asarray(found)


def manifest() -> Manifest:
    """Return a manifest with a pair of any two of the features."""
    return make_manifest(FEATURES, values(1000, 1))


def sums(samples: Samples) -> dict[str, tuple[float, float]]:
    """Return the rows and Σzᵢzⱼ by pair."""
    rows = by_label(samples, "model_feature_pair_total", "pair")
    return {
        pair: (number, signs["pos"] - signs["neg"])
        for pair, number in rows.items()
        for signs in [by_label(samples, "model_feature_pair_zscore_sum_total", "sign", pair=pair)]
    }


@pytest.mark.parametrize("rows", [1, 2, 127, 128, 129, 1000])
def test_products_are_summed_over_rows_that_have_both(tmp_path: Path, rows: int) -> None:
    """One by one and in batches of any size, as a slow count has it."""
    built, live = manifest(), values(rows, 2) + 0.3
    means, sigmas = np.array([(each.mean, each.sigma) for each in built.reference[:-1]]).T
    z = (live - means) / sigmas
    metrics = ModelMetrics(built, tmp_path)
    metrics.record(live, np.zeros(rows), 0.001)
    for row in live:
        metrics.record(row[None], np.zeros(1), 0.001)
    expected = {}
    for i, j in ((0, 1), (0, 2), (1, 2)):
        products = z[:, i] * z[:, j]
        has_both = ~np.isnan(products)
        pair = f"{FEATURES[i].name} and {FEATURES[j].name}"
        expected[pair] = (2 * has_both.sum(), 2 * products[has_both].sum())

    found = sums(read_metrics(tmp_path))

    assert found.keys() == expected.keys() == {pair.name for pair in built.pairs}
    for pair, wanted in expected.items():
        assert found[pair] == pytest.approx(wanted, rel=1e-9, abs=1e-9)


def test_without_nullable_features_all_rows_count(tmp_path: Path) -> None:
    """Then rows need not be counted pair by pair."""
    built = make_manifest(FEATURES[:2], values(1000, 1)[:, :2])
    metrics = ModelMetrics(built, tmp_path)
    metrics.record(values(300, 3)[:, :2], np.zeros(300), 0.001)

    assert by_label(read_metrics(tmp_path), "model_feature_pair_total", "pair") == {"a and b": 300}


def test_an_absurd_value_is_clipped_in_products_too(tmp_path: Path) -> None:
    """Each z is, so that later rows still change the sums."""
    metrics = ModelMetrics(manifest(), tmp_path)
    metrics.record(np.full((1, 3), 1e308), np.zeros(1), 0.001)

    assert [each for _, each in sums(read_metrics(tmp_path)).values()] == pytest.approx(
        [MAX_ABSOLUTE_Z**2] * 3
    )
