"""Rows as numbers: what metrics count and compiled estimators eat."""

from collections.abc import Sequence
from math import nan

import numpy as np

from bundle.arrays import Floats
from bundle.manifest import Feature, Value

Cell = Value | None
"""A value as the client sent it; a missing one is NaN, or None for a category."""


class _Codes(dict[Cell, float]):
    """Maps a category to its code; unseen ones have the next code after all of them."""

    def __init__(self, feature: Feature) -> None:
        super().__init__({value: float(code) for code, value in enumerate(feature.categories)})
        self._unseen = float(len(feature.categories))
        self[None] = nan

    def __missing__(self, _: Cell) -> float:
        return self._unseen


class Encoder:
    """Encodes rows: values in the order of the features.

    A number stays as it is, a boolean is 0 or 1, a datetime is in seconds since 1970, a category is
    its index in `categories`, or their number if it is not among them; a missing value is NaN.
    """

    def __init__(self, features: Sequence[Feature]) -> None:
        self._width = len(features)
        self._codes = [
            (place, _Codes(feature))
            for place, feature in enumerate(features)
            if feature.type == "category"
        ]

    def codes(self, rows: Sequence[Sequence[Cell]]) -> Floats:
        """Return the codes (n, features) of n rows."""
        if not self._codes:
            return np.array(rows, dtype=np.float64).reshape(len(rows), self._width)
        return np.array([self._row(row) for row in rows], np.float64).reshape(
            len(rows), self._width
        )

    def _row(self, row: Sequence[Cell]) -> list[Cell]:
        cells = [*row]
        for place, codes in self._codes:
            cells[place] = codes[cells[place]]
        return cells
