"""Grafana's transformations, as far as the dashboards use them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tools.report.fields import Field
from tools.report.frames import Frame
from tools.report.notes import Notes

Row = dict[str, Any]


def transform(
    frames: Sequence[Frame], steps: Sequence[Mapping[str, Any]], notes: Notes
) -> list[Frame]:
    """Return the tables after every transformation; one that is unknown is noted and left out."""
    done = list(frames)
    for step in steps:
        if notes.check("transformation", step["id"], KNOWN):
            done = KNOWN[step["id"]](done, step["options"])
    return done


def rows(frame: Frame) -> list[Row]:
    """Return a table by rows."""
    columns = [each.values for each in frame]
    names = [each.name for each in frame]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def from_rows(names: Sequence[str], table: Sequence[Row]) -> Frame:
    """Return a table by columns."""
    return [Field(name, [row.get(name) for row in table]) for name in names]


def _merge(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """Join tables by the columns that they share, apart from the values."""
    del options
    names = list(dict.fromkeys(each.name for frame in frames for each in frame))
    merged: list[Row] = []
    for frame in frames:
        for row in rows(frame):
            same = next((each for each in merged if _agree(each, row)), None)
            if same is None:
                merged.append(dict(row))
            else:
                same.update(row)
    return [from_rows(names, merged)]


def _agree(one: Row, other: Row) -> bool:
    shared = [name for name in one.keys() & other.keys() if name != "Time"]
    return bool(shared) and all(one[name] == other[name] for name in shared)


def _organize(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    order, names = options.get("indexByName", {}), options.get("renameByName", {})
    excluded = {name for name, out in options.get("excludeByName", {}).items() if out}
    return [
        [
            Field(names.get(each.name, each.name), each.values)
            for each in sorted(frame, key=lambda each: order.get(each.name, len(order)))
            if each.name not in excluded
        ]
        for frame in frames
    ]


def _sort_by(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    done = list(frames)
    for by in options["sort"]:
        done = [sorted_by(frame, by["field"], descending=by.get("desc", False)) for frame in done]
    return done


def sorted_by(frame: Frame, name: str, *, descending: bool) -> Frame:
    """Return a table sorted by a column; rows without a value come last."""
    if name not in [each.name for each in frame]:
        return frame
    table = rows(frame)
    known = [row for row in table if row[name] is not None]
    known.sort(key=lambda row: row[name], reverse=descending)
    ordered = [*known, *(row for row in table if row[name] is None)]
    return from_rows([each.name for each in frame], ordered)


def _matrix(frames: Sequence[Frame], options: Mapping[str, Any]) -> list[Frame]:
    """Make a matrix: a row per value of one column, and a column per value of another."""
    across, down, value = (options[f"{each}Field"] for each in ("column", "row", "value"))
    done: list[Frame] = []
    for frame in frames:
        cells = {(row[down], row[across]): row[value] for row in rows(frame)}
        columns = sorted({column for _, column in cells})
        corner = f"{down}\\{across}"
        table = [
            {corner: row, **{column: cells.get((row, column)) for column in columns}}
            for row in sorted({row for row, _ in cells})
        ]
        done.append(from_rows([corner, *columns], table))
    return done


KNOWN: Mapping[str, Callable[[Sequence[Frame], Mapping[str, Any]], list[Frame]]] = {
    "merge": _merge,
    "organize": _organize,
    "sortBy": _sort_by,
    "groupingToMatrix": _matrix,
}
