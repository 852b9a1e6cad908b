"""The rows of the example, as in its bundle, and the name of its target."""

import csv
from pathlib import Path

from bundle.manifest import DRIFTED_FILE, HELD_OUT_FILE

Row = dict[str, float]

# tests/unit/examples compares it with the manifest.
TARGET = "quality"


def held_out_rows(bundle: Path) -> list[Row]:
    """Return the held-out rows, including their target."""
    return _rows(bundle / HELD_OUT_FILE)


def drifted_rows(bundle: Path) -> list[Row]:
    """Return the rows of the drifted population, including their target."""
    return _rows(bundle / DRIFTED_FILE)


def without_target(row: Row) -> Row:
    """Return a row's features, which are a request."""
    return {name: value for name, value in row.items() if name != TARGET}


def _rows(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
