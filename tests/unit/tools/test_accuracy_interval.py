"""The 95 % intervals of the accuracy rules hold the truth about as often as they claim.

tests/rules/test_accuracy_values.py shows that the rules compute the same intervals.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from bundle.arrays import Floats
from tests.support.accuracy import accuracy, student_quantile

Draw = Callable[[np.random.Generator, int | tuple[int, int]], Floats]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda rng, size: rng.normal(0.3, 1.0, size),
    "lognormal": lambda rng, size: rng.lognormal(0.0, 1.0, size),
    "t3": lambda rng, size: rng.standard_t(3, size),
    "90 % zero": lambda rng, size: np.where(rng.random(size) < 0.9, 0, rng.normal(0, 1, size)),
    # As of the example: half of the labels fall on two of eleven grades.
    "grades": lambda rng, size: rng.normal(5.6, 0.5, size) - rng.binomial(10, 0.56, size),
}
WINDOWS = {20: 2_000, 200: 2_000, 1_000: 1_000, 5_000: 400}

# Which share of the windows holds the truth, at least. With 20 labels of which nine in ten are
# exact, one window in eight has no error in it: no interval made of it can hold the truth.
MAE = {
    "normal": (0.94, 0.93, 0.93),
    "lognormal": (0.89, 0.92, 0.93),
    "t3": (0.92, 0.93, 0.92),
    "90 % zero": (0.80, 0.94, 0.93),
    "grades": (0.94, 0.93, 0.93),
}


@cache
def windows(name: str, labels: int) -> Floats:
    """Return errors of shape (windows, labels)."""
    rng = np.random.default_rng([4, labels])
    return DISTRIBUTIONS[name](rng, (WINDOWS[labels], labels))


@cache
def truth(name: str) -> dict[str, float]:
    """Return the statistics of very many errors."""
    return accuracy(DISTRIBUTIONS[name](np.random.default_rng(5), 4_000_000))


def coverage(name: str, labels: int, statistic: str) -> float:
    """Return the share of windows whose interval holds the truth."""
    judged = [accuracy(errors) for errors in windows(name, labels)]
    held = [
        each.get(f"{statistic}_ci lower", 0.0)
        <= truth(name)[statistic]
        <= each.get(f"{statistic}_ci upper", 0.0)
        for each in judged
    ]
    return sum(held) / len(held)


@pytest.mark.parametrize("labels", [20, 200, 5_000])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_interval_of_the_mae_holds_the_truth(name: str, labels: int) -> None:
    """Also with twenty labels, and where errors are skewed or nearly all zero."""
    least = MAE[name][[20, 200, 5_000].index(labels)]

    assert least <= coverage(name, labels, "mae") <= 0.98


@pytest.mark.parametrize("labels", [200, 5_000])
@pytest.mark.parametrize("name", ["normal", "t3", "grades"])
def test_interval_of_the_bias_holds_the_truth(name: str, labels: int) -> None:
    """Of a mean of either sign, Student's interval does."""
    assert 0.92 <= coverage(name, labels, "bias") <= 0.98


@pytest.mark.parametrize("labels", [200, 1_000, 5_000])
@pytest.mark.parametrize("name", ["normal", "lognormal", "90 % zero", "grades"])
def test_interval_of_the_rmse_holds_the_truth(name: str, labels: int) -> None:
    """From 200 labels on; with fewer there is none: the fourth powers are too noisy."""
    assert 0.93 <= coverage(name, labels, "rmse") <= 0.985
    assert "rmse_ci lower" not in accuracy(windows(name, 20)[0])


@pytest.mark.parametrize("labels", [200, 1_000, 5_000])
def test_interval_of_the_rmse_is_too_narrow_for_squares_without_variance(labels: int) -> None:
    """The documented limit, which no number of labels cures: t with 3 degrees of freedom."""
    assert 0.86 <= coverage("t3", labels, "rmse") <= 0.95


@pytest.mark.parametrize("effect", [1, 10])
def test_labels_that_come_again_widen_the_interval(effect: int) -> None:
    """Each label ten times, with its design effect: as wide as without the copies."""
    errors = windows("normal", 200)[0]
    once, again = accuracy(errors), accuracy(np.repeat(errors, effect), effect)

    assert again["mae_ci lower"] == pytest.approx(once["mae_ci lower"], rel=1e-9)
    assert again["mae_ci upper"] == pytest.approx(once["mae_ci upper"], rel=1e-9)


@pytest.mark.parametrize(("labels", "exact"), [(20, 2.0930), (50, 2.0096), (200, 1.9720)])
def test_cornish_and_fisher_give_students_quantile(labels: int, exact: float) -> None:
    """To three digits, from twenty labels on."""
    assert student_quantile(labels) == pytest.approx(exact, abs=1e-3)
