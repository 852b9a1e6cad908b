"""What a column of data is: its type, unit, categories, and whether it has missing values."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

import pandas as pd

from bundle.errors import UnmonitorableError
from bundle.frames import datetimes
from bundle.manifest import Feature, FeatureType, Value

# Text with more values than this is free text, not a category.
MAX_CATEGORIES = 1_000
# A column of text of which this share reads as numbers is a column of numbers with faults in it.
_MOSTLY = 0.5
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_IN_BRACKETS = re.compile(r"[(\[]([^()\[\]]{1,12})[)\]]\s*$")
_SUFFIXES = {
    **{each: each for each in ("mm", "cm", "km", "mg", "kg", "ml", "ms", "min", "kwh")},
    "pct": "%",
    "percent": "%",
    "usd": "USD",
    "eur": "EUR",
    "celsius": "°C",
}


class Column(NamedTuple):
    """What is known about a column before it is looked at; None is to be inferred."""

    name: str
    type: FeatureType | None = None
    nullable: bool | None = None
    unseen: Literal["pass", "reject"] = "pass"


def infer(column: Column, train: pd.DataFrame, held_out: pd.DataFrame | None = None) -> Feature:
    """Return the feature that a column of the training rows is. Raises UnmonitorableError.

    It is nullable if either frame lacks a value of it. No range is inferred: the service would
    reject the values that drift.
    """
    values = train[column.name]
    kind = column.type or _type(column.name, values)
    frames = [train] if held_out is None or column.name not in held_out else [train, held_out]
    is_nullable = any(bool(frame[column.name].isna().any()) for frame in frames)
    return Feature(
        name=column.name,
        description="",
        unit=unit(column.name) if kind in ("number", "integer") else "",
        type=kind,
        nullable=is_nullable if column.nullable is None else column.nullable,
        categories=_categories(column.name, values) if kind == "category" else (),
        unseen=column.unseen,
    )


def unit(name: str) -> str:
    """Return the unit that a name ends with, as in `length (cm)` or `length_cm`, or nothing."""
    if found := _IN_BRACKETS.search(name):
        return found.group(1)
    return _SUFFIXES.get(name.rpartition("_")[2].lower(), "") if "_" in name else ""


def _type(name: str, values: "pd.Series[Any]") -> FeatureType:
    known = values.dropna()
    if known.empty:
        raise UnmonitorableError(
            f"column {name} has no value: leave it out with `ignore: [{name}]`"
        )
    if isinstance(values.dtype, pd.CategoricalDtype):
        return "category"
    if pd.api.types.is_bool_dtype(known.infer_objects()):
        return "boolean"
    if pd.api.types.is_integer_dtype(values):
        return "integer"
    if pd.api.types.is_float_dtype(values):
        # pandas reads whole numbers with gaps as floats.
        return "integer" if len(known) < len(values) and (known % 1 == 0).all() else "number"
    if pd.api.types.is_datetime64_any_dtype(values):
        return "datetime"
    return _type_of_text(name, known)


def _type_of_text(name: str, known: "pd.Series[Any]") -> FeatureType:
    kinds = {type(value).__name__ for value in known}
    if len(kinds) > 1:
        raise UnmonitorableError(
            f"column {name} has values of several types ({', '.join(sorted(kinds))}):"
            " make them one type"
        )
    if kinds != {"str"}:
        raise UnmonitorableError(
            f"column {name} has values of type {kinds.pop()}: only numbers, booleans, text and"
            " datetimes can be served"
        )
    if known.map(lambda text: bool(_ISO_DATE.fullmatch(text))).all() and _parses(known):
        return "datetime"
    _reject_faulty_numbers(name, known)
    return "category"


def _parses(known: "pd.Series[Any]") -> bool:
    try:
        datetimes(known)
    except ValueError:
        return False
    return True


def _reject_faulty_numbers(name: str, known: "pd.Series[Any]") -> None:
    is_text = pd.to_numeric(known, errors="coerce").isna()
    share = 1 - is_text.mean()
    if _MOSTLY <= share < 1:
        examples = ", ".join(map(repr, known[is_text].drop_duplicates().head(3)))
        raise UnmonitorableError(
            f"column {name} has {len(known) - is_text.sum()} numbers and {is_text.sum()} texts"
            f" ({examples}): correct them, or set `type: category`"
        )


def _categories(name: str, values: "pd.Series[Any]") -> tuple[Value, ...]:
    """Return the values by descending count, then by value. Raises UnmonitorableError."""
    known = values.dropna()
    counts = Counter(map(_scalar, known.astype(object)))
    if len(counts) == len(known) > 1 and isinstance(next(iter(counts)), str):
        raise UnmonitorableError(
            f"column {name} has a different text in every row, like an identifier:"
            f" leave it out with `ignore: [{name}]`"
        )
    if len(counts) > MAX_CATEGORIES:
        raise UnmonitorableError(
            f"column {name} has {len(counts)} categories, more than {MAX_CATEGORIES}:"
            f" group the rare ones, or leave it out with `ignore: [{name}]`"
        )
    return tuple(in_order(counts.items()))


def in_order(counts: Iterable[tuple[Value, int]]) -> list[Value]:
    """Return values by descending count, then by type and value."""
    ranked = sorted(counts, key=lambda each: (-each[1], type(each[0]).__name__, each[0]))
    return [value for value, _ in ranked]


def _scalar(value: Any) -> Value:  # noqa: ANN401 what pandas holds
    """Return a value as JSON has it; whole numbers that pandas made floats are integers again."""
    plain = value.item() if hasattr(value, "item") else value
    if isinstance(plain, float) and plain.is_integer():
        return int(plain)
    if isinstance(plain, bool | int | float | str):
        return plain
    return str(plain)
