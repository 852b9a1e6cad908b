"""The CSV files of a bundle: training rows for readers, and rows for the simulated traffic."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.checks import Recipe, check_accepted_values
from bundle.errors import UnmonitorableError
from bundle.frames import column_codes, datetimes, require_column
from bundle.manifest import (
    DRIFTED_FILE,
    HELD_OUT_FILE,
    PREDICTION,
    REFERENCE_FILE,
    REFERENCE_ROWS,
    TRAFFIC_ROWS,
    Feature,
    Value,
)


def reference_rows(
    frame: pd.DataFrame,
    recipe: Recipe,
    predictions: Sequence[Value],
    probabilities: Mapping[str, Floats],
) -> dict[str, bytes]:
    """Return the file with rows, each with its prediction, and probabilities (n,) by column."""
    chosen = _chosen(len(frame), REFERENCE_ROWS, recipe.seed)
    rows = _columns(frame.iloc[chosen], recipe)
    rows[PREDICTION] = [predictions[row] for row in chosen]
    for name, values in probabilities.items():
        if name not in rows:
            rows[name] = np.round(values[chosen], 6)
    return {REFERENCE_FILE: _csv(rows)}


def traffic_rows(
    recipe: Recipe, held_out: pd.DataFrame, drifted: pd.DataFrame | None
) -> dict[str, bytes]:
    """Return a CSV file for each given frame. Raises UnmonitorableError.

    The service must accept every row.
    """
    files = {}
    for name, frame in {HELD_OUT_FILE: held_out, DRIFTED_FILE: drifted}.items():
        if frame is None:
            continue
        for feature in recipe.features:
            try:
                check_accepted_values(feature, column_codes(frame, feature))
            except UnmonitorableError as error:
                raise UnmonitorableError(f"{name}: {error}") from error
        require_column(frame, recipe.target.name)
        chosen = _chosen(len(frame), TRAFFIC_ROWS, recipe.seed)
        files[name] = _csv(_columns(frame.iloc[chosen], recipe))
    return files


def _columns(frame: pd.DataFrame, recipe: Recipe) -> pd.DataFrame:
    """Return features and target, with values that read like JSON's."""
    columns = frame[[*(feature.name for feature in recipe.features), recipe.target.name]].copy()
    for feature in recipe.features:
        if feature.type in ("boolean", "datetime"):
            columns = columns.assign(**{feature.name: _written(columns[feature.name], feature)})
    return columns


def _written(values: "pd.Series[Any]", feature: Feature) -> "pd.Series[Any]":
    if feature.type == "boolean":
        return values.map({True: "true", False: "false"})
    return datetimes(values).map(lambda moment: moment.isoformat(), na_action="ignore")


def _chosen(rows: int, at_most: int, seed: int) -> list[int]:
    """Return the places of all rows, or of a seeded sample of them if there are too many."""
    if rows <= at_most:
        return [*range(rows)]
    return np.random.default_rng(seed).permutation(rows)[:at_most].tolist()  # type: ignore[no-any-return]


def _csv(rows: pd.DataFrame) -> bytes:
    return rows.to_csv(index=False, lineterminator="\n").encode()
