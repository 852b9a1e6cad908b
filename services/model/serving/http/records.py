"""Rows as records `{feature: value}`, from the columns or the matrix that another protocol sends.

Undeclared columns are dropped and counted: a record repeats every name, so that one long name and
many rows would fill the memory.
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import repeat
from typing import Any, NamedTuple

from serving.inputs import body_error, check_rows

Record = dict[str, Any]


class Records(NamedTuple):
    """Rows, which may hold anything that a client sent; and how many undeclared values they had."""

    rows: Sequence[Any]
    ignored: int = 0


def of_columns(columns: Mapping[str, Sequence[Any]], names: Collection[str], place: str) -> Records:
    """Return the rows of columns by name. Raises InvalidInputError."""
    lengths = {len(values) for values in columns.values()}
    if len(lengths) > 1:
        message = f"{place}: One has {min(lengths)} values, another {max(lengths)}"
        raise body_error("type", message)
    rows = max(lengths, default=0)
    check_rows(rows)
    declared = {name: columns[name] for name in names if name in columns}
    values = zip(*declared.values(), strict=True) if declared else repeat((), rows)
    ignored = (len(columns) - len(declared)) * rows
    return Records([dict(zip(declared, row, strict=True)) for row in values], ignored)


def of_matrix(
    rows: Sequence[Any], columns: Sequence[str], names: Collection[str], place: str
) -> Records:
    """Return the rows of a matrix with these columns. Raises InvalidInputError."""
    check_rows(len(rows))
    width = len(columns)
    for index, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != width:
            message = f"{place}: Row {index} is not a list of {width} values"
            raise body_error("type", message, rows=len(rows))
    declared = [(at, name) for at, name in enumerate(columns) if name in names]
    ignored = (width - len(declared)) * len(rows)
    return Records([{name: row[at] for at, name in declared} for row in rows], ignored)
