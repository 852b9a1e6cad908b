"""The pairs of features whose correlation is watched."""

from collections.abc import Mapping, Sequence

import numpy as np

from bundle.arrays import Floats
from bundle.blocks import BLOCK_ROWS
from bundle.manifest import Pair, Reference

MAX_PAIRS = 20
# A weaker correlation is of little use to a model, and more pairs are more false alarms.
MIN_CORRELATION = 0.1
# Fewer rows that have both values are no reference.
MIN_ROWS = 200


def choose_pairs(
    references: Sequence[Reference], values: Floats, importance: Mapping[str, float] | None = None
) -> tuple[Pair, ...]:
    """Return at most MAX_PAIRS pairs, the strongest first: by |r|, times the importance of both.

    `references` are those of the numeric features, and `values` (n, features) their training
    values, NaN where missing. Without importances, all count the same.
    """
    scales = np.array([(each.mean, each.sigma) for each in references]).reshape(-1, 2)
    means, sigmas = scales.T
    z = values - means
    z /= sigmas
    weights = _weights([importance[each.name] if importance else 1.0 for each in references])
    # Rounded, because the last bits of parallel sums vary, and the choice must not.
    correlations = _correlations(z).round(9)
    strength = np.abs(correlations) * weights[:, None] * weights
    strength[np.abs(correlations) < MIN_CORRELATION] = 0
    first, second = np.triu_indices(len(references), k=1)
    order = np.argsort(-strength[first, second], kind="stable")
    pairs: dict[str, Pair] = {}
    for i, j in zip(first[order].tolist(), second[order].tolist(), strict=True):
        if len(pairs) == MAX_PAIRS or strength[i, j] == 0:
            break
        pair = describe_pair((references[i].name, references[j].name), z[:, i], z[:, j])
        # Names that contain " and " may be ambiguous.
        pairs.setdefault(pair.name, pair)
    return tuple(pairs.values())


def _weights(importances: Sequence[float]) -> Floats:
    """Return importances by the largest one; 0, or a negative one, counts a hundredth of it."""
    known = np.array(importances)
    largest = known.max(initial=0.0) or 1.0
    return np.asarray(np.maximum(known / largest, 0.01))


def _correlations(z: Floats) -> Floats:
    """Return the mean of zᵢzⱼ (features, features) over rows that have both; 0 with too few."""
    rows, products = (np.zeros((z.shape[1], z.shape[1])) for _ in range(2))
    # In blocks: of all rows, what is missing and what is known would take twice the memory of z.
    for start in range(0, len(z), BLOCK_ROWS):
        block = z[start : start + BLOCK_ROWS]
        is_present = (~np.isnan(block)).astype(float)
        known = np.nan_to_num(block)
        rows += is_present.T @ is_present
        products += known.T @ known
    return np.where(rows >= MIN_ROWS, products / np.maximum(rows, 1), 0.0)


def describe_pair(features: tuple[str, str], x: Floats, y: Floats) -> Pair:
    """Return the pair of standardized values (n,), NaN where missing.

    The variance is that of the correlation coefficient's influence function, xy - r (x² + y²)/2.
    """
    has_both = ~(np.isnan(x) | np.isnan(y))
    x, y = x[has_both], y[has_both]
    correlation = float((x * y).mean())
    influence = x * y - correlation * (x**2 + y**2) / 2
    return Pair(
        features=features,
        correlation=correlation,
        variance=float(influence.var()),
        rows=len(x),
    )
