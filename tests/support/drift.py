"""The drift statistics in plain NumPy and SciPy, written without a look at the rules."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from bundle.arrays import Floats


@dataclass(frozen=True)
class Drift:
    """What the rules record about one signal in one window."""

    rows: float
    psi: float
    psi_noise: float
    psi_critical: float
    verdict: int


def smoothed(counts: Floats) -> Floats:
    """Return the share of each bin, as if half a row more lay in each."""
    return np.asarray((counts + 0.5) / (counts.sum() + 0.5 * len(counts)))


def chi_squared_critical(degrees: int) -> float:
    """Return what chi-squared exceeds once in a thousand times, by Wilson and Hilferty (1931)."""
    spread = 2 / (9 * degrees)
    return float(degrees * (1 - spread + stats.norm.isf(0.001) * np.sqrt(spread)) ** 3)


def drift(counts: Floats, reference: Floats) -> Drift:
    """Judge `counts` rows per bin against `reference` rows per bin."""
    p, q = smoothed(counts), smoothed(reference)
    rows, degrees = counts.sum(), len(counts) - 1
    spread = 1 / rows + 1 / reference.sum()
    # The symmetric Kullback-Leibler divergence is the PSI.
    psi = stats.entropy(p, q) + stats.entropy(q, p)
    noise, critical = degrees * spread, chi_squared_critical(degrees) * spread
    drifted = psi - noise > 0.1 and psi > critical
    return Drift(rows, psi, noise, critical, -1 if rows < 200 else int(drifted))
