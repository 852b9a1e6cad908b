"""Convert a bundle's reference rows to Fiddler's columns: pure functions."""

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime

from publisher.categories import category_converter, probability_name
from publisher.errors import RejectedError
from publisher.fiddler_columns import (
    format_time,
    output_name,
    probability_columns,
)
from publisher.header import Category, Column, Header, to_text

PREDICTION = "prediction"

Read = Callable[[str], str]
"""Returns the text that Fiddler gets for that of a cell. Raises ValueError or OverflowError."""


def fiddler_rows(lines: Iterable[str], header: Header) -> Iterator[list[str]]:
    """Yield the rows of a CSV file with the columns of Fiddler's model, names first.

    Values have the types of events. If the file has no probabilities, these columns are empty.
    Raises RejectedError if the columns or values are not those of the model.
    """
    rows = csv.reader(lines)
    names = next(rows, [])
    _check_names(names, header)
    columns = [*_columns(names, header)]
    yield [name for name, _, _ in columns]
    for row in rows:
        if len(row) != len(names):
            raise RejectedError(0, f"a row has {len(row)} values instead of {len(names)}")
        yield [_cell(name, row, at, read) for name, at, read in columns]


def _check_names(names: list[str], header: Header) -> None:
    optional = {*map(probability_name, header.target.classes)}
    expected = [*(each.name for each in header.features), header.target.name, PREDICTION]
    if sorted(name for name in names if name not in optional) != sorted(expected):
        raise RejectedError(0, f"the rows have other columns than the model: {', '.join(names)}")


def _columns(names: list[str], header: Header) -> Iterator[tuple[str, int | None, Read]]:
    """Yield each column of Fiddler's with its place in the file, None if it is not there."""
    target = header.target
    reads = {each.name: _reader(each) for each in (*header.features, target)}
    if target.classes:
        reads[target.name] = reads[PREDICTION] = _category_reader(target.classes)
    renamed = {PREDICTION: output_name(target.name)}
    probabilities = {name for _, name in probability_columns(header)}
    for at, name in enumerate(names):
        if name in reads or name == PREDICTION:
            yield renamed.get(name, name), at, reads.get(name, str)
    for name in sorted(probabilities):
        yield name, names.index(name) if name in names else None, str


def _cell(name: str, row: Sequence[str], at: int | None, read: Read) -> str:
    if at is None or not row[at]:
        return ""
    try:
        return read(row[at])
    except (ValueError, OverflowError) as error:
        raise RejectedError(0, f"{name} has a value of another type") from error


def _reader(column: Column) -> Read:
    readers: dict[str, Read] = {"integer": _integer, "boolean": _boolean, "datetime": _moment}
    if column.type == "category":
        return _category_reader(column.categories)
    return readers.get(column.type, str)


def _integer(text: str) -> str:
    """Return an integer; in a column with missing values it is written as 2.0."""
    if not float(text).is_integer():
        raise ValueError("not an integer")
    return str(int(float(text)))


def _boolean(text: str) -> str:
    if text.lower() not in ("true", "false"):
        raise ValueError("not true or false")
    return text.lower()


def _moment(text: str) -> str:
    moment = datetime.fromisoformat(text)
    return format_time(moment.astimezone(UTC) if moment.tzinfo else moment)


def _category_reader(categories: Sequence[Category]) -> Read:
    """Return what reads categories as events have them; a number may be written as 3.0."""
    texts = {*map(to_text, categories)}
    if all(isinstance(each, bool) for each in categories):
        return _boolean
    if any(isinstance(each, str) for each in categories):
        return str
    convert = category_converter(categories)
    return lambda text: text if text in texts else convert(float(text)) or ""
