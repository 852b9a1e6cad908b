"""Data frames as the estimator eats them, as codes, and as a client would send their rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.encode import Cell
from bundle.errors import UnmonitorableError
from bundle.manifest import Feature, Input

_EPOCH = pd.Timestamp(0, tz="UTC")
_SECOND = pd.Timedelta(1, "s")


def eaten(frame: pd.DataFrame, features: Sequence[Feature], given: Input) -> Any:  # noqa: ANN401
    """Return what the estimator eats: a DataFrame or a matrix (rows, features).

    Raises UnmonitorableError.
    """
    if given.kind == "matrix" and not any(each.type == "category" for each in features):
        return matrix(frame, features)
    columns = _typed(frame, features, given.dtypes)
    if given.kind == "matrix":
        return _objects(columns, features)
    return columns.rename(columns={each.name: each.source for each in features})


def _typed(
    frame: pd.DataFrame, features: Sequence[Feature], dtypes: dict[str, str]
) -> pd.DataFrame:
    """Return the features' columns, datetimes in UTC, and text as pandas categories if need be."""
    for feature in features:
        require_column(frame, feature.name)
    typed = frame[[feature.name for feature in features]]
    for feature in features:
        values = typed[feature.name]
        if feature.type == "datetime":
            typed = typed.assign(**{feature.name: datetimes(values)})
        elif dtypes.get(feature.source) == "category" and str(values.dtype) != "category":
            typed = typed.assign(**{feature.name: values.astype("category")})
    return typed


def _objects(columns: pd.DataFrame, features: Sequence[Feature]) -> Any:  # noqa: ANN401
    for feature in features:
        if feature.type == "datetime":
            seconds = _seconds(columns[feature.name])
            columns = columns.assign(**{feature.name: seconds})
    return columns.to_numpy(dtype=object, na_value=np.nan)


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    """Return the type of each column, by name."""
    return {str(name): str(dtype) for name, dtype in frame.dtypes.items()}


def matrix(frame: pd.DataFrame, features: Sequence[Feature]) -> Floats:
    """Return the codes (rows, features) of a data frame. Raises UnmonitorableError."""
    codes = np.empty((len(frame), len(features)))
    for place, feature in enumerate(features):
        codes[:, place] = column_codes(frame, feature)
    return codes


def column_codes(frame: pd.DataFrame, feature: Feature) -> Floats:
    """Return the codes (rows,) of one feature, NaN where missing. Raises UnmonitorableError."""
    if feature.type == "category":
        return category_codes(frame, feature)
    if feature.type == "datetime":
        require_column(frame, feature.name)
        try:
            return _seconds(datetimes(frame[feature.name]))
        except (TypeError, ValueError) as error:
            raise UnmonitorableError(
                f"column {feature.name} is not a date and time: {error}"
            ) from error
    return numbers(frame, feature.name)


def category_codes(frame: pd.DataFrame, feature: Feature) -> Floats:
    """Return the codes (rows,) of a category, NaN where missing. Raises UnmonitorableError."""
    require_column(frame, feature.name)
    values = frame[feature.name]
    known = pd.Index([*feature.categories], dtype=object)
    codes = known.get_indexer(pd.Index(values.astype(object), dtype=object)).astype(np.float64)
    codes[codes < 0] = len(known)
    codes[values.isna().to_numpy()] = np.nan
    return codes


def numbers(frame: pd.DataFrame, name: str) -> Floats:
    """Return a column of numbers (rows,), NaN where missing. Raises UnmonitorableError."""
    require_column(frame, name)
    try:
        return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UnmonitorableError(f"column {name} is not numeric: {error}") from error


def require_column(frame: pd.DataFrame, name: str) -> None:
    """Raise UnmonitorableError if a column is missing."""
    if name not in frame:
        raise UnmonitorableError(f"column {name} is not in the data frame")


def datetimes(values: "pd.Series[Any]") -> "pd.Series[Any]":
    """Return ISO 8601 text or datetimes as datetime64[ns, UTC]; no time zone means UTC."""
    if isinstance(values.dtype, np.dtype | pd.DatetimeTZDtype) and values.dtype.kind == "M":
        parsed = pd.to_datetime(values, utc=True)
    else:
        parsed = pd.to_datetime(values, utc=True, format="ISO8601")
    return parsed.astype("datetime64[ns, UTC]")


def _seconds(values: "pd.Series[Any]") -> Floats:
    seconds: Any = (values - _EPOCH) / _SECOND
    return np.asarray(seconds, dtype=np.float64)


def cells(frame: pd.DataFrame, features: Sequence[Feature]) -> list[tuple[Cell, ...]]:
    """Return the rows as the service has them after decoding JSON (see bundle.encode)."""
    columns = []
    for feature in features:
        if feature.type == "category":
            values = frame[feature.name].astype(object)
            columns.append([*values.where(values.notna(), None)])
        elif feature.type == "boolean":
            codes = numbers(frame, feature.name).tolist()
            columns.append([code if code != code else bool(code) for code in codes])  # noqa: PLR0124 NaN
        else:
            columns.append(column_codes(frame, feature).tolist())
    return [*zip(*columns, strict=True)]
