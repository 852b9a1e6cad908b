"""The bodies of MLflow's scoring server, and records of features.

A body has exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`. Rows
without names are in the order of the bundle's features.
"""

from collections.abc import Sequence
from typing import Any

from serving.inputs import body_error, check_rows

Record = dict[str, Any]
FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def to_records(document: Any, names: Sequence[str]) -> Sequence[Any]:  # noqa: ANN401 any JSON
    """Return the rows of a body; what is no record among them is left to the batch's checks.

    Raises InvalidInputError.
    """
    given = [each for each in FORMATS if each in document] if isinstance(document, dict) else []
    if len(given) != 1:
        raise body_error("type", f"Send an object with exactly one of {', '.join(FORMATS)}")
    (format_,) = given
    data = document[format_]
    if format_ == "dataframe_split":
        return _split(data, names)
    if format_ == "inputs" and isinstance(data, dict):
        return _columns(data)
    if not isinstance(data, list):
        raise body_error("type", f"{format_}: Send a list of rows")
    check_rows(len(data))
    is_matrix = format_ != "dataframe_records" and isinstance(next(iter(data), None), list)
    return _named(data, names, format_) if is_matrix else data


def _split(data: Any, names: Sequence[str]) -> list[Record]:  # noqa: ANN401 any JSON
    rows = data.get("data") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise body_error("type", "dataframe_split: Send an object with columns and data")
    columns = data.get("columns", names)
    if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
        raise body_error("type", "dataframe_split.columns: Send a list of names")
    if len(set(columns)) < len(columns):
        raise body_error("type", "dataframe_split.columns: A name comes twice")
    check_rows(len(rows))
    return _named(rows, columns, "dataframe_split.data")


def _columns(data: Record) -> list[Record]:
    if not all(isinstance(values, list) for values in data.values()):
        raise body_error("type", "inputs: Send a list of values for each feature")
    if len(lengths := {len(values) for values in data.values()}) > 1:
        raise body_error("type", f"inputs: The features have {sorted(lengths)} values")
    check_rows(max(lengths, default=0))
    return [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]


def _named(rows: Sequence[Any], names: Sequence[str], place: str) -> list[Record]:
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != len(names):
            message = f"{place}: Row {index} is not a list of {len(names)} values"
            raise body_error("type", message, rows=len(rows))
    return [dict(zip(names, row, strict=True)) for row in rows]
