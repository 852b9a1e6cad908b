"""What was found out about the columns, as a table for a terminal."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from bundle.frames import column_codes
from bundle.manifest import Feature, Manifest

_HEADER = (
    "feature",
    "type",
    "unit",
    "values in training",
    "nullable",
    "missing",
    "bins",
    "importance",
)
_WIDEST = 40


def feature_table(manifest: Manifest, train: pd.DataFrame) -> Iterator[str]:
    """Yield the lines of a table with a row for each feature, the most important first."""
    bins = {each.name: str(len(each.bins)) for each in manifest.reference}
    ranked = sorted(manifest.features, key=lambda each: -(each.importance or 0.0))
    rows = [_row(feature, train, bins.get(feature.name, "not monitored")) for feature in ranked]
    yield from lines([_HEADER, *rows])


def _row(feature: Feature, train: pd.DataFrame, bins: str) -> tuple[str, ...]:
    missing = float(train[feature.name].isna().mean())
    return (
        feature.name,
        feature.type,
        feature.unit,
        _values(feature, train),
        "yes" if feature.nullable else "no",
        f"{missing:.1%}" if missing else "–",
        bins,
        f"{feature.importance or 0.0:.3g}",
    )


def _values(feature: Feature, train: pd.DataFrame) -> str:
    """Return the seen range, or the most frequent categories."""
    if feature.type == "category":
        return f"{len(feature.categories)}: " + ", ".join(map(str, feature.categories))
    if feature.type == "boolean":
        return "false, true"
    codes = column_codes(train, feature)
    low, high = float(np.nanmin(codes)), float(np.nanmax(codes))
    if feature.type == "datetime":
        first, last = (pd.Timestamp(each, unit="s").date() for each in (low, high))
        return f"{first} to {last}"
    return f"{low:g} to {high:g}"


def lines(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines with aligned columns, under a rule after the first."""
    cut = [[_cut(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for number, row in enumerate(cut):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        if number == 0:
            yield "  ".join("─" * width for width in widths)


def _cut(cell: str) -> str:
    flat = " ".join(cell.split())
    return flat if len(flat) <= _WIDEST else flat[: _WIDEST - 1] + "…"
