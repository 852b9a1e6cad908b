"""Print an answer: an aligned table, CSV, or JSON."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import TextIO

import pyarrow as pa

# Longer tables are for programs, which want CSV or JSON.
SHOWN_ROWS = 200
_NUMBERS = (int, float)


def print_table(batches: Iterable[pa.RecordBatch], out: TextIO) -> None:
    """Print the first rows below their names, numbers aligned to the right and rounded."""
    names, rows = _rows(batches)
    shown = [[*map(_cell, row)] for row in islice(rows, SHOWN_ROWS)]
    lines = aligned(names, shown)
    out.writelines(f"{line}\n" for line in lines)
    if next(rows, None) is not None:
        print(f"log: only {SHOWN_ROWS} rows are shown; --format csv prints all", file=sys.stderr)


def print_csv(batches: Iterable[pa.RecordBatch], out: TextIO) -> None:
    """Print a line with the names, and one for each row; null is an empty field."""
    names, rows = _rows(batches)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(map(_plain, row) for row in rows)


def print_json(batches: Iterable[pa.RecordBatch], out: TextIO) -> None:
    """Print an array with an object for each row; NaN and infinities are null."""
    names, rows = _rows(batches)
    out.write("[")
    separator = "\n"
    for row in rows:
        out.write(separator + json.dumps(dict(zip(names, map(_json, row), strict=True))))
        separator = ",\n"
    out.write("\n]\n")


FORMATS: dict[str, Callable[[Iterable[pa.RecordBatch], TextIO], None]] = {
    "table": print_table,
    "csv": print_csv,
    "json": print_json,
}


def _rows(batches: Iterable[pa.RecordBatch]) -> tuple[list[str], Iterator[tuple[object, ...]]]:
    """Return the names of the columns, and the rows one at a time."""
    iterator = iter(batches)
    first = next(iterator)
    names: list[str] = first.schema.names
    return names, (
        row
        for batch in chain([first], iterator)
        for row in zip(*(column.to_pylist() for column in batch.columns), strict=True)
    )


def aligned(names: Sequence[str], rows: Sequence[Sequence[tuple[str, bool]]]) -> Iterator[str]:
    """Yield the lines of a table of texts, each with whether it is a number."""
    columns = [*zip(*rows, strict=True)] or [()] * len(names)
    widths = [
        max(len(name), *(len(text) for text, _ in cells), 0)
        for name, cells in zip(names, columns, strict=True)
    ]
    right = [any(is_number for _, is_number in cells) for cells in columns]
    texts = ([text for text, _ in row] for row in rows)
    for line in chain([names, ["-" * width for width in widths]], texts):
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        )
        yield "  ".join(padded).rstrip()


def _cell(value: object) -> tuple[str, bool]:
    """Return a value as text, and whether it is a number; null is a dash."""
    if value is None:
        return "-", False
    if isinstance(value, float):
        return f"{value:.6g}", True
    return str(_plain(value)), isinstance(value, int) and not isinstance(value, bool)


def _plain(value: object) -> object:
    """Return a value as CSV has it: truth values and structures as in JSON, times as ISO 8601."""
    if isinstance(value, bool | list | dict):
        return json.dumps(value, default=str)
    return value if value is None or isinstance(value, int | float) else str(value)


def _json(value: object) -> object:
    """Return a value that JSON has."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list):
        return [*map(_json, value)]
    if isinstance(value, dict):
        return {str(key): _json(each) for key, each in value.items()}
    return str(_plain(value))
