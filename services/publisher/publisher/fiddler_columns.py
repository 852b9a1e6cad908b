"""The columns of a model at Fiddler: their names, and our values as Fiddler takes them.

Categories and classes are text there. Pure functions.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from publisher.categories import category_converter, probability_name
from publisher.events import Value
from publisher.header import Column, Header

EVENT_ID = "prediction_id"
EVENT_TIME = "predicted_at"
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_BINARY = 2

FiddlerValue = float | int | bool | str | None
Convert = Callable[[Value], FiddlerValue]
"""Returns Fiddler's value for one of an event. Raises ValueError, which names the column only."""


def output_name(target: str) -> str:
    """Return the name of the prediction column; the label's column is named after the target."""
    return f"predicted_{target}"


def probability_columns(header: Header) -> list[tuple[int, str]]:
    """Return the index of a class and the column of its probability, for each that Fiddler gets.

    Of two classes, Fiddler gets the probability of the second one only.
    """
    if not header.prediction.probabilities:
        return []
    named = [*enumerate(map(probability_name, header.target.classes))]
    return named[1:] if len(named) == _BINARY else named


def converter(column: Column) -> Convert | None:
    """Return what converts the values of a feature, None if they stay as they are."""
    match column.type:
        case "integer":
            return lambda value: _integer(column.name, value)
        case "boolean":
            return lambda value: _boolean(column.name, value)
        case "datetime":
            return lambda value: _moment(column.name, value)
        case "category":
            return category_converter(column.categories)
    return None


def timestamp(seconds: float) -> str:
    """Return a time (s since 1970) in TIME_FORMAT. Raises ValueError or OverflowError."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def format_time(moment: datetime) -> str:
    """Return a time in UTC in TIME_FORMAT."""
    return moment.isoformat(timespec="microseconds")[:26] + "Z"


def _integer(name: str, value: Value) -> int | None:
    if value is None:
        return None
    if not isinstance(value, float) or not value.is_integer():
        raise ValueError(f"{name} is not an integer")
    return int(value)


def _boolean(name: str, value: Value) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise ValueError(f"{name} is not true or false")


def _moment(name: str, value: Value) -> str | None:
    if value is None:
        return None
    try:
        if isinstance(value, float):
            return timestamp(value)
    except (ValueError, OverflowError, OSError):  # before the year 1 or after 9999
        pass
    raise ValueError(f"{name} is not a time")
