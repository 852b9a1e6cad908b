"""The drift statistics in plain NumPy and SciPy, written without a look at the rules."""

from dataclasses import dataclass

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

    Chi-squared of the minutes against the whole, weighted by the training's shares: what lies
    between the minutes is their sum of squares less that of the whole.
    """
    busy = minutes[minutes.sum(axis=1) > 0]
    if len(busy) < 2:
        return 1.0
    whole, q = busy.sum(axis=0), smoothed(reference)
    between = (busy**2 / q).sum(axis=1) / busy.sum(axis=1)
    p = smoothed(whole)
    independent = (len(busy) - 1) * (p * (1 - p) / q).sum()
    return max(1.0, float((between.sum() - (whole**2 / q).sum() / whole.sum()) / independent))


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
