"""The drift statistics in plain NumPy and SciPy, written without a look at the rules."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import stats

from bundle.arrays import Floats


@dataclass(frozen=True)
class Drift:
    """What the rules record about one signal in one window."""

    rows: float
    effective_rows: float
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


def design_effect(minutes: Floats, reference: Floats) -> float:
    """Return the overdispersion of rows (minutes, bins) against a multinomial, 1 at least.

    The upper quartile of chi-squared between each minute and the one before, weighted by the
    training's shares, over that of independent rows.
    """
    q, p = smoothed(reference), smoothed(minutes.sum(axis=0))
    pairs = [
        (((now / now.sum() - before / before.sum()) ** 2) / q).sum()
        / (1 / now.sum() + 1 / before.sum())
        for before, now in pairwise(minutes)
        if before.sum() and now.sum()
    ]
    if not pairs:
        return 1.0
    spread = 2 / (9 * (len(q) - 1))
    quartile = (1 - spread + stats.norm.isf(0.25) * np.sqrt(spread)) ** 3
    independent = (p * (1 - p) / q).sum() * quartile
    return max(1.0, float(np.quantile(pairs, 0.75) / independent))


def drift(counts: Floats, reference: Floats, effect: float = 1.0, m: float | None = None) -> Drift:
    """Judge `counts` rows per bin, with their design effect, against `reference` rows per bin.

    `m` is the effective number of reference rows, where not all of them count.
    """
    p, q = smoothed(counts), smoothed(reference)
    rows, degrees = counts.sum(), len(counts) - 1
    spread = effect / rows + 1 / (m or reference.sum())
    # The symmetric Kullback-Leibler divergence is the PSI.
    psi = stats.entropy(p, q) + stats.entropy(q, p)
    noise, critical = degrees * spread, chi_squared_critical(degrees) * spread
    drifted = psi - noise > 0.1 and psi > critical
    verdict = -1 if rows / effect < 200 else int(drifted)
    return Drift(rows, rows / effect, psi, noise, critical, verdict)
