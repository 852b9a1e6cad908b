"""The pairs that a bundle names: the most correlated features, with what training says of them."""

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.pairs import MAX_PAIRS, MIN_CORRELATION, choose_pairs, describe_pair
from bundle.reference import describe
from tests.support.bundles import make_manifest

RANDOM = np.random.default_rng(4)


def correlated(features: int, rows: int = 2000, common: float = 0.7) -> Floats:
    """Return values (rows, features) that share a part."""
    shared = RANDOM.normal(size=(rows, 1)) * np.linspace(common, common / 3, features)
    return np.asarray(5 + shared + RANDOM.normal(size=(rows, features)))


def choose(values: Floats, **importance: float) -> list[tuple[str, ...]]:
    """Return the features of the pairs that are chosen among a, b, c and so on."""
    names = [chr(ord("a") + index) for index in range(values.shape[1])]
    references = [
        describe(name, column, nullable=bool(np.isnan(column).any()))
        for name, column in zip(names, values.T, strict=True)
    ]
    return [pair.features for pair in choose_pairs(references, values, importance or None)]


def test_the_strongest_pairs_come_first_and_weak_ones_are_left_out() -> None:
    """They are those of NumPy's correlation matrix, by absolute value, at most twenty."""
    values = correlated(12)
    matrix = np.abs(np.corrcoef(values.T))
    first, second = np.triu_indices(12, k=1)
    order = sorted(zip(first, second, strict=True), key=lambda pair: -matrix[pair])
    expected = [pair for pair in order if matrix[pair] >= MIN_CORRELATION][:MAX_PAIRS]
    letters = "abcdefghijkl"

    found = choose(values)

    assert found == [(letters[i], letters[j]) for i, j in expected]
    assert len(found) == MAX_PAIRS
    assert choose(correlated(12, common=0)) == []


def test_importance_weighs_the_correlation() -> None:
    """A weaker correlation of important features comes before a stronger one of others."""
    x, y = RANDOM.normal(size=(2, 2000, 1))
    values = np.hstack(
        [x, x + 0.5 * RANDOM.normal(size=x.shape), y, y + RANDOM.normal(size=y.shape)]
    )

    assert choose(values) == [("a", "b"), ("c", "d")]
    assert choose(values, a=0.1, b=0.1, c=0.5, d=0.3) == [("c", "d"), ("a", "b")]


def test_rows_without_one_of_the_values_do_not_count() -> None:
    """With too few that have both, there is no pair."""
    values = correlated(2, common=2)
    values[:1500, 0] = np.nan
    references = [describe("a", values[:, 0], nullable=True), describe("b", values[:, 1])]

    [pair] = choose_pairs(references, values)

    assert pair.rows == 500
    values[:1850, 0] = np.nan
    assert choose(values) == []


@pytest.mark.parametrize("tail", ["normal", "heavy"])
def test_the_variance_is_that_of_the_correlation_over_many_samples(tail: str) -> None:
    """It is (1 - r²)² for normal values; with heavy tails it is larger, and right."""
    random = np.random.default_rng(8)
    z = random.normal(size=(2, 400_000))
    scale = 1.0 if tail == "normal" else random.gamma(3, size=400_000) ** -0.25 * 1.4
    x = z[0] * scale
    y = (0.6 * z[0] + 0.8 * z[1]) * scale
    x, y = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    samples = [np.corrcoef(x[part], y[part])[0, 1] for part in np.arange(400_000).reshape(-1, 500)]

    pair = describe_pair(("x", "y"), x, y)

    assert pair.correlation == pytest.approx(0.6, abs=0.01)
    assert pair.variance == pytest.approx(500 * np.var(samples), rel=0.15)
    assert (pair.variance > 0.45) == (tail == "heavy")


def test_a_bundle_without_pairs_is_valid_and_one_with_unknown_features_is_not() -> None:
    """Older bundles have no pairs; a pair of something else could not be counted."""
    content = make_manifest().model_dump()
    pair = {"features": ("plain", "nobody"), "correlation": 0.5, "variance": 1.0, "rows": 1000}

    del content["pairs"]
    assert type(make_manifest()).model_validate(content).pairs == ()
    with pytest.raises(ValueError, match="a pair is not two of the features"):
        type(make_manifest()).model_validate(content | {"pairs": [pair]})
