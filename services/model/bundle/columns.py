"""The columns that a compiled estimator's core eats, made of codes: scaled, imputed, encoded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats

Step = tuple[str, Floats]
"""What is done to each column, with a value for each: `fill` (NaN only), `subtract`, `divide`,
`multiply`, `add`, `at_least` or `at_most`."""

_ARITHMETIC = {
    "subtract": np.subtract,
    "divide": np.divide,
    "multiply": np.multiply,
    "add": np.add,
    "at_least": np.maximum,
    "at_most": np.minimum,
}


def apply(step: Step, values: Floats) -> Floats:
    """Return values (n, m) after a step with m parameters."""
    name, parameters = step
    if name == "fill":
        return np.where(np.isnan(values), parameters, values)
    result: Floats = _ARITHMETIC[name](values, parameters)
    return result


@dataclass(frozen=True)
class Numbers:
    """Columns `place` (m,) of the result: the codes of columns `source` (m,) after `steps`."""

    source: NDArray[np.intp]
    place: NDArray[np.intp]
    steps: Sequence[Step]

    def of(self, codes: Floats) -> Floats:
        """Return (n, m) of codes (n, k)."""
        values = codes if _is_all(self.source, codes.shape[1]) else codes[:, self.source]
        for step in self.steps:
            values = apply(step, values)
        return values


@dataclass(frozen=True)
class Lookup:
    """Columns `place` (m,) of the result: a row of `table` for each code of column `source`.

    With c categories, `table` (c + 2, m) has row c for unseen ones and row c + 1 for missing ones.
    `is_rejected` (c + 2,) are the codes that the estimator raises ValueError for.
    """

    source: int
    place: NDArray[np.intp]
    table: Floats
    is_rejected: NDArray[np.bool_]

    def of(self, codes: Floats) -> Floats:
        """Return (n, m) of codes (n, k). Raises ValueError."""
        column = codes[:, self.source]
        rows = np.where(np.isnan(column), len(self.table) - 1, column).astype(np.intp)
        if self.is_rejected.take(rows).any():
            raise ValueError("a category that the estimator does not know, or a missing one")
        return self.table.take(rows, axis=0)


@dataclass(frozen=True)
class Columns:
    """Makes rows (n, width) of codes (n, k).

    If `as_float32`, they are rounded to float32, as scikit-learn's trees compare them. `rejects` is
    what the estimator raises ValueError for: `nothing`, `infinite`, or also `missing` values.
    """

    numbers: Sequence[Numbers]
    lookups: Sequence[Lookup]
    width: int
    as_float32: bool
    rejects: str

    def of(self, codes: Floats) -> Floats:
        """Return the rows (n, width). Raises ValueError."""
        rows = self._assemble(codes)
        if self.as_float32:
            with np.errstate(over="ignore"):
                rows = rows.astype(np.float32).astype(np.float64)
        if self.rejects == "missing" and not np.isfinite(rows).all():
            raise ValueError("a missing value, or one that is too large")
        if self.rejects == "infinite" and np.isinf(rows).any():
            raise ValueError("a value that is too large")
        return rows

    def _assemble(self, codes: Floats) -> Floats:
        blocks: list[Numbers | Lookup] = [*self.numbers, *self.lookups]
        if len(blocks) == 1 and _is_all(blocks[0].place, self.width):
            return blocks[0].of(codes)
        rows = np.empty((len(codes), self.width))
        for block in blocks:
            rows[:, block.place] = block.of(codes)
        return rows


def _is_all(places: NDArray[np.intp], width: int) -> bool:
    return len(places) == width and bool((places == np.arange(width)).all())


def state(columns: Columns) -> dict[str, Any]:
    """Return the columns as plain values and arrays."""
    return {
        "numbers": [[each.source, each.place, [*each.steps]] for each in columns.numbers],
        "lookups": [
            [each.source, each.place, each.table, each.is_rejected] for each in columns.lookups
        ],
        "width": columns.width,
        "as_float32": columns.as_float32,
        "rejects": columns.rejects,
    }


def restore(saved: dict[str, Any]) -> Columns:
    """Return the columns of a state."""
    return Columns(
        numbers=[
            Numbers(source, place, [(name, values) for name, values in steps])
            for source, place, steps in saved["numbers"]
        ],
        lookups=[Lookup(*each) for each in saved["lookups"]],
        width=saved["width"],
        as_float32=saved["as_float32"],
        rejects=saved["rejects"],
    )
