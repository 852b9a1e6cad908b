"""The vendored UCI Wine Quality data (Cortez et al. 2009, CC BY 4.0, see NOTICE) and its split."""

import csv
import random
from pathlib import Path
from typing import Literal

Color = Literal["red", "white"]
Row = dict[str, float]

TARGET = "quality"
HELD_OUT_SHARE = 0.2
# With this seed the held-out rows are distributed like the training rows: their largest population
# stability index is 0.05.
SEED = 0


def rows(color: Color) -> list[Row]:
    """Return all vendored rows of one colour: 11 features and the target, by name."""
    with (Path(__file__).parent / "data" / f"{color}.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def split(all_rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """Return (training rows, held-out rows): a seeded fifth of the distinct wines is held out.

    One red wine in seven is in the data more than once. Rows with equal features are kept together;
    otherwise the held-out error would be measured on rows of the training set.
    """
    wines = sorted({_features(row) for row in all_rows})
    random.Random(SEED).shuffle(wines)  # noqa: S311 a split, not a secret
    held_out = set(wines[: round(HELD_OUT_SHARE * len(wines))])
    return (
        [row for row in all_rows if _features(row) not in held_out],
        [row for row in all_rows if _features(row) in held_out],
    )


def _features(row: Row) -> tuple[float, ...]:
    return tuple(value for name, value in row.items() if name != TARGET)
