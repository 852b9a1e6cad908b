"""The 95 % intervals of the accuracy rules hold the truth as often as they say.

tests/rules/test_accuracy_values.py shows that the rules compute the same intervals.
"""

from collections.abc import Callable

import numpy as np
import pytest

from bundle.arrays import Floats
from tests.support.accuracy import accuracy

WINDOWS, LABELS = 2_000, 200
# The loans model's errors are between the two: half of its labels fall on two of eleven grades.
Draw = Callable[[np.random.Generator, int | tuple[int, int]], Floats]
DISTRIBUTIONS: dict[str, Draw] = {
    "normal": (lambda rng, size: rng.normal(0.3, 1.0, size)),
    "laplace": (lambda rng, size: rng.laplace(0.3, 1.0, size)),
    "grades": (lambda rng, size: rng.normal(5.6, 0.5, size) - rng.binomial(10, 0.56, size)),
}


@pytest.fixture(name="windows", scope="module", params=DISTRIBUTIONS)
def _windows(request: pytest.FixtureRequest) -> tuple[Floats, Floats]:
    """Return errors of shape (windows, labels), and very many more of the same kind."""
    rng = np.random.default_rng(4)
    draw = DISTRIBUTIONS[request.param]
    return draw(rng, (WINDOWS, LABELS)), draw(rng, 4_000_000)


def coverage(statistic: str, windows: tuple[Floats, Floats]) -> float:
    """Return the share of windows whose interval holds the statistic of very many errors."""
    samples, population = windows
    truth = accuracy(population)[statistic]
    judged = [accuracy(errors) for errors in samples]
    held = [abs(each[statistic] - truth) <= each[f"{statistic}_ci95"] for each in judged]
    return sum(held) / len(held)


@pytest.mark.parametrize("statistic", ["mae", "bias"])
def test_interval_of_a_mean_covers_it_as_often_as_it_says(
    statistic: str, windows: tuple[Floats, Floats]
) -> None:
    """Of 2,000 windows of 200 labels, 93 to 97 % have the true value in their interval."""
    assert 0.93 <= coverage(statistic, windows) <= 0.97


def test_interval_of_the_rmse_is_nearly_as_good(windows: tuple[Floats, Floats]) -> None:
    """The delta method with a noisy fourth moment: 91 % where errors have heavy tails."""
    assert 0.91 <= coverage("rmse", windows) <= 0.97
