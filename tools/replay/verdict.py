"""Whether a difference between two versions is more than chance."""

import numpy as np

from bundle.arrays import Floats
from tools.replay.log import Groups

# Fewer distinct labelled rows than this do not make a normal approximation.
ENOUGH_ROWS = 30
# Of the normal distribution, for 95 %.
_QUANTILE = 1.959964


def error_verdict(paired: Floats, groups: Groups) -> str:
    """Return the mean paired difference (n,) with its 95 % interval, and what follows from it.

    Equal rows are not independent, so the variance is that of sums over groups of equal rows
    (cluster-robust; Cameron and Miller, A Practitioner's Guide to Cluster-Robust Inference, 2015).
    """
    sums, sizes = _by_group(paired, groups)
    if len(sums) < ENOUGH_ROWS:
        return _too_few(paired, len(sums))
    low, high = _interval(sums, sizes)
    return _text(paired, low, high, "better" if high < 0 else "worse" if low > 0 else None)


def accuracy_verdict(paired: Floats, groups: Groups) -> str:
    """Return the same for differences (n,) of 1, 0 or -1 in being right.

    Where few rows differ, that interval is too narrow: 4 of 10,000 rows that differ in the same
    direction would be enough. So a group is added for each direction, as large as those that differ
    (root mean square). For rows that are all distinct, this is the adjusted Wald interval of Bonett
    and Price, Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on
    Paired Data, 2012.
    """
    sums, sizes = _by_group(paired, groups)
    if len(sums) < ENOUGH_ROWS:
        return _too_few(paired, len(sums))
    differing = sums[sums != 0]
    added = float(np.sqrt((differing**2).mean())) if differing.size else 1.0
    low, high = _interval(np.append(sums, [added, -added]), np.append(sizes, [added, added]))
    low, high = max(low, -1.0), min(high, 1.0)
    return _text(paired, low, high, "better" if low > 0 else "worse" if high < 0 else None)


def _by_group(paired: Floats, groups: Groups) -> tuple[Floats, Floats]:
    """Return the sum and the number of the values of each group of equal rows."""
    _, members = np.unique(groups, return_inverse=True)
    sums: Floats = np.bincount(members, weights=paired).astype(np.float64)
    return sums, np.bincount(members).astype(np.float64)


def _interval(sums: Floats, sizes: Floats) -> tuple[float, float]:
    """Return the 95 % interval of the mean over all groups."""
    groups, rows = len(sums), sizes.sum()
    mean = sums.sum() / rows
    squares = ((sums - mean * sizes) ** 2).sum()
    half = _QUANTILE * np.sqrt(squares * groups / (groups - 1)) / rows
    return float(mean - half), float(mean + half)


def _too_few(paired: Floats, distinct: int) -> str:
    mean = paired.mean()
    return f"{mean:+.4g}; cannot tell: {distinct} distinct rows, {ENOUGH_ROWS} are needed"


def _text(paired: Floats, low: float, high: float, word: str | None) -> str:
    interval = f"(95 % interval {low:+.4g} to {high:+.4g})"
    return f"{paired.mean():+.4g} {interval}: {word or 'cannot tell'}"
