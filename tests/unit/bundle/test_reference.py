"""Reference bins are deciles of the training rows; ties are merged, and no bin is empty."""

import numpy as np
import pytest
from scipy import stats

from bundle.arrays import Floats
from bundle.reference import bin_edges, describe, smoothed_ratios

RANDOM = np.random.default_rng(0)
SAMPLES = {
    "normal": RANDOM.normal(0, 1, 1000),
    "many zeros": np.where(RANDOM.random(1000) < 0.35, 0.0, RANDOM.gamma(2, 1, 1000)),
    "nearly all zeros": np.where(RANDOM.random(1000) < 0.97, 0.0, RANDOM.normal(3, 1, 1000)),
    "many maxima": np.minimum(RANDOM.normal(0, 1, 1000), 0.5),
    "few levels": RANDOM.integers(0, 4, 1000).astype(float),
    "two levels": np.repeat([0.0, 1.0], (999, 1)),
    "huge": RANDOM.normal(0, 1, 1000) * 1e100,
    "tiny": RANDOM.normal(0, 1, 1000) * 1e-100,
    "exactly 200": RANDOM.normal(0, 1, 200),
}


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_bins_are_numpys_histogram_of_the_rows(values: Floats) -> None:
    """Counts equal np.histogram over the edges; there are two to ten bins, none of them empty."""
    reference = describe("x", values)
    counts = [each.count for each in reference.bins]

    borders = [-np.inf, *reference.edges, np.inf]
    assert np.histogram(values, borders)[0].tolist() == counts
    assert min(counts) > 0
    assert 2 <= len(counts) <= 10
    assert [f"{i:02d}" for i in range(len(counts))] == [each.bin for each in reference.bins]


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES)
def test_edges_are_values_of_the_data_and_increase(values: Floats) -> None:
    """No edge lies between two values, so the last bit of a float cannot matter."""
    edges = bin_edges(values)

    assert set(edges) <= set(values)
    assert (np.diff(edges) > 0).all()


def test_without_ties_the_bins_are_deciles() -> None:
    """There are ten bins, each with a tenth of the rows."""
    counts = [each.count for each in describe("x", SAMPLES["normal"]).bins]

    assert counts == [100] * 10


def test_equal_values_are_in_one_bin() -> None:
    """A third of the rows are 0 and are in one bin; no other bin is empty because of them."""
    values = SAMPLES["many zeros"]
    reference = describe("x", values)

    assert reference.minimum == 0.0
    assert reference.bins[0].count >= (values == 0).sum()
    assert min(each.count for each in reference.bins) > 0


def test_a_nullable_feature_has_a_bin_for_missing_values() -> None:
    """It is the last bin and exists even if no training row is missing."""
    values = SAMPLES["normal"].copy()
    full = describe("x", values, nullable=True)
    values[::4] = np.nan
    gaps = describe("x", values, nullable=True)

    assert (full.bins[-1].bin, full.bins[-1].count) == ("missing", 0)
    assert full.bins[-1].ratio > 0
    assert (gaps.bins[-1].bin, gaps.bins[-1].count) == ("missing", 250)
    assert sum(each.count for each in gaps.bins) == 1000


def test_mean_sigma_and_extremes_ignore_missing_values() -> None:
    """σ is the population standard deviation, which the z-scores are computed with."""
    values = SAMPLES["normal"].copy()
    values[::4] = np.nan
    reference = describe("x", values, nullable=True)

    assert reference.mean == pytest.approx(np.nanmean(values), rel=1e-12)
    assert reference.sigma == pytest.approx(np.nanstd(values), rel=1e-12)
    known = values[~np.isnan(values)]
    assert reference.kurtosis == pytest.approx(stats.kurtosis(known, fisher=False), rel=1e-12)
    assert (reference.minimum, reference.maximum) == (np.nanmin(values), np.nanmax(values))


def test_ratios_are_smoothed_and_sum_to_one() -> None:
    """A ratio is (count + ½) / (rows + ½·bins), which is never 0."""
    ratios = smoothed_ratios([0, 3, 7])

    assert ratios == pytest.approx([0.5 / 11.5, 3.5 / 11.5, 7.5 / 11.5])
    assert sum(ratios) == pytest.approx(1, abs=1e-15)


def test_absolute_errors_are_means_by_bin() -> None:
    """Each bin has the mean error of the predictions in it."""
    values = SAMPLES["normal"]
    errors = np.abs(RANDOM.normal(0, 1, 1000))
    reference = describe("x", values, absolute_errors=errors)

    index = np.digitize(values, reference.edges)
    expected = [errors[index == i].mean() for i in range(10)]
    assert expected == pytest.approx([each.absolute_error for each in reference.bins])


def test_ranges_of_bins_are_distinct() -> None:
    """Every bin has a different range, even if edges differ only in the 8th digit."""
    for values in (*SAMPLES.values(), 1e6 + SAMPLES["normal"] * 1e-3):
        ranges = [each.range for each in describe("x", values).bins]

        assert len(set(ranges)) == len(ranges)
