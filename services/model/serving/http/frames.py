"""The bodies of MLflow's scoring server, and records of features.

A body has exactly one of `dataframe_split`, `dataframe_records`, `instances` and `inputs`. Rows
without names are in the order of the bundle's features.
"""

from collections.abc import Sequence
from typing import Any

from serving.http.records import Records, of_columns, of_matrix
from serving.inputs import body_error, check_rows

FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")


def to_records(document: Any, names: Sequence[str]) -> Records:  # noqa: ANN401 any JSON
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
        return _columns(data, names)
    if not isinstance(data, list):
        raise body_error("type", f"{format_}: Send a list of rows")
    if data and isinstance(data[0], list):
        return of_matrix(data, names, names, format_)
    check_rows(len(data))
    return Records(data)


def _split(data: Any, names: Sequence[str]) -> Records:  # noqa: ANN401 any JSON
    rows = data.get("data") if isinstance(data, dict) else None
    if not isinstance(rows, list):
        raise body_error("type", "dataframe_split: Send an object with columns and data")
    columns = names if data.get("columns") is None else data["columns"]
    if not isinstance(columns, list) or not all(isinstance(each, str) for each in columns):
        raise body_error("type", "dataframe_split.columns: Send a list of names")
    if len(set(columns)) < len(columns):
        raise body_error("type", "dataframe_split.columns: A name comes twice")
    return of_matrix(rows, columns, names, "dataframe_split.data")


def _columns(data: dict[str, Any], names: Sequence[str]) -> Records:
    if not all(isinstance(values, list) for values in data.values()):
        raise body_error("type", "inputs: Send a list of values for each feature")
    return of_columns(data, names, "inputs")
