"""Cells of the prediction log: the values of events as Parquet holds them, and back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from publisher.categories import category_converter
from publisher.events import Value
from publisher.header import Category, Column, to_text

TIME = pa.timestamp("us", tz="UTC")
_MICROSECONDS = 1e6
_LARGEST = 2.0**63


@dataclass(frozen=True)
class Conversion:
    """The type of a feature's column, and the functions between an event's values and its cells."""

    type: pa.DataType
    write: Callable[[Value], object]
    read: Callable[[object], Value]


def conversion(column: Column) -> Conversion:
    """Return how the values of a feature are stored."""
    match column.type:
        case "integer":
            return Conversion(pa.int64(), _integer, _number)
        case "boolean":
            return Conversion(pa.bool_(), _boolean, _boolean)
        case "datetime":
            return Conversion(TIME, _moment, _seconds)
        case "category":
            write = category_converter(column.categories)
            return Conversion(pa.string(), write, _category_reader(column.categories))
        case "number":
            return Conversion(pa.float64(), _number, _number)


def to_microseconds(seconds: float) -> int:
    """Return a time in microseconds."""
    return round(seconds * _MICROSECONDS)


def to_seconds(microseconds: float) -> float:
    """Return a time in seconds."""
    return microseconds / _MICROSECONDS


def _number(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise TypeError("not a number")
    return float(value)


def _integer(value: object) -> int | None:
    number = _number(value)
    if number is None:
        return None
    if not number.is_integer() or not -_LARGEST <= number < _LARGEST:
        raise ValueError("not an integer of 64 bits")
    return int(number)


def _boolean(value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise TypeError("neither true nor false")


def _moment(value: object) -> int | None:
    number = _number(value)
    return None if number is None else _integer(float(to_microseconds(number)))


def _seconds(value: object) -> float | None:
    number = _number(value)
    return None if number is None else to_seconds(number)


def _category_reader(categories: Sequence[Category]) -> Callable[[object], Value]:
    """Return what reads a category; an unseen one is text or a number like them."""
    values = {to_text(each): _event_value(each) for each in categories}
    numeric = bool(categories) and not any(isinstance(each, str) for each in categories)

    def read(value: object) -> Value:
        if value is None:
            return None
        text = str(value)
        if text in values:
            return values[text]
        try:
            return float(text) if numeric else text
        except ValueError:
            return text

    return read


def _event_value(category: Category) -> Value:
    """Return a category as events have it: numbers are floats."""
    return float(category) if type(category) is int else category
