"""Reference distributions: decile bins of the training rows, which live rows are compared with."""

from itertools import pairwise

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import Bin, Reference

DECILES = np.linspace(0.1, 0.9, 9)


def bin_edges(values: Floats) -> Floats:
    """Return the inner edges of two to ten bins of about equal counts.

    `values` (n,) have no NaN and are not all equal. Edges are values of the data, and equal edges
    are merged, so that no bin is empty.
    """
    minimum = values.min()
    edges: Floats = np.quantile(values, DECILES, method="higher")
    if edges[-1] == minimum:
        # More than 90 % of the values are the minimum, such as a flag that is rarely set: the other
        # values get a bin of their own.
        edges = values[values > minimum].min(keepdims=True)
    return np.unique(edges[edges > minimum])


def describe(
    name: str,
    values: Floats,
    *,
    nullable: bool = False,
    absolute_errors: Floats | None = None,
) -> Reference:
    """Return the reference of one signal from its training values (n,), NaN where missing."""
    known = values[~np.isnan(values)]
    edges = bin_edges(known)
    index = np.searchsorted(edges, known, side="right")
    counts = [int(count) for count in np.bincount(index, minlength=len(edges) + 1)]
    ids = [f"{i:02d}" for i in range(len(counts))]
    ranges = _ranges(edges)
    if nullable:
        counts.append(len(values) - len(known))
        ids.append("missing")
        ranges.append("missing")
    ratios = smoothed_ratios(counts)
    errors: list[float | None] = [None] * len(counts)
    if absolute_errors is not None:
        errors = [float(absolute_errors[index == i].mean()) for i in range(len(counts))]
    return Reference(
        name=name,
        edges=tuple(edges.tolist()),
        bins=tuple(
            Bin(bin=bin_, range=range_, count=count, ratio=ratio, absolute_error=error)
            for bin_, range_, count, ratio, error in zip(
                ids, ranges, counts, ratios, errors, strict=True
            )
        ),
        mean=float(known.mean()),
        sigma=float(known.std()),
        kurtosis=float((((known - known.mean()) / known.std()) ** 4).mean()),
        minimum=float(known.min()),
        maximum=float(known.max()),
    )


def smoothed_ratios(counts: list[int]) -> list[float]:
    """Return (count + ½) / (rows + ½·bins) for each bin: Jeffreys' prior, never 0."""
    rows = sum(counts)
    return [(count + 0.5) / (rows + 0.5 * len(counts)) for count in counts]


def _ranges(edges: Floats) -> list[str]:
    """Return a readable range for each bin."""
    names = _names(edges)
    inner = [f"{low} to {high}" for low, high in pairwise(names)]
    return [f"< {names[0]}", *inner, f">= {names[-1]}"]


def _names(edges: Floats) -> list[str]:
    """Return the edges with six significant digits, or as many as make them distinct."""
    digits = 6
    while len({f"{edge:.{digits}g}" for edge in edges}) < len(edges):
        digits += 1
    return [f"{edge:.{digits}g}" for edge in edges]
