"""Reference distributions of the training rows, which live rows are compared with.

Numbers are in decile bins, categories and classes have a bin each.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import MAX_CATEGORY_BINS, MISSING, UNSEEN, Bin, Reference, Value

DECILES = np.linspace(0.1, 0.9, 9)
# A longer category is shortened where it names a bin: every series of the bin repeats it.
_MAX_RANGE = 60


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
        ids.append(MISSING)
        ranges.append(MISSING)
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


def describe_codes(
    name: str,
    codes: Floats,
    values: Sequence[Value],
    *,
    is_feature: bool,
    nullable: bool = False,
) -> Reference:
    """Return the reference of codes (n,), NaN where missing: indices in `values`.

    A feature has a bin for unseen values, and one for missing ones if it is nullable.
    """
    own_bins = min(len(values), MAX_CATEGORY_BINS)
    edges = [*range(1, own_bins)]
    ids = [f"{i:02d}" for i in range(own_bins)]
    ranges = _category_ranges(values)
    if is_feature:
        edges.append(len(values))
        ids.append(UNSEEN)
        ranges.append(UNSEEN)
    known = codes[~np.isnan(codes)]
    index = np.searchsorted(edges, known, side="right")
    counts = np.bincount(index, minlength=len(ids)).tolist()
    if nullable:
        ids.append(MISSING)
        ranges.append(MISSING)
        counts.append(len(codes) - len(known))
    parts = zip(ids, ranges, counts, smoothed_ratios(counts), strict=True)
    return Reference(
        name=name,
        edges=tuple(map(float, edges)),
        bins=tuple(
            Bin(bin=bin_, range=range_, count=count, ratio=ratio)
            for bin_, range_, count, ratio in parts
        ),
    )


def _category_ranges(values: Sequence[Value]) -> list[str]:
    names = [_text(value) for value in values]
    if len(names) <= MAX_CATEGORY_BINS:
        return names
    rarer = len(names) - (MAX_CATEGORY_BINS - 1)
    return [*names[: MAX_CATEGORY_BINS - 1], f"other ({rarer} categories)"]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    text = str(value)
    return text if len(text) <= _MAX_RANGE else text[: _MAX_RANGE - 1] + "…"


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
    """Return the edges with four significant digits, or as many as make them distinct."""
    digits = 4
    while len({f"{edge:.{digits}g}" for edge in edges}) < len(edges):
        digits += 1
    # Rounded first: four digits of 12,345 would be an exponent.
    return [f"{float(f'{edge:.{digits}g}'):.{max(digits, 6)}g}" for edge in edges]
