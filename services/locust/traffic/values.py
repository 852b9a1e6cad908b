"""The types of features: their cells in CSV files, how they drift, and what the service rejects."""

import math
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from traffic.manifest import Feature, Manifest

Value = float | bool | str | None

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False}


def read_cell(feature: Feature, text: str) -> Value:
    """Return the value of a cell that is not empty, as JSON shall have it.

    Raises ValueError with what it should be.
    """
    match feature.type:
        case "boolean":
            return _boolean(text)
        case "category":
            return _category(feature.categories, text)
        case "datetime":
            return _moment(text).isoformat()
        case "integer":
            number = _number(text)
            return int(number) if number.is_integer() else number
    return _number(text)


def read_class(manifest: Manifest, text: str) -> Value:
    """Return the true value in a cell that is not empty: a number, or one of the classes.

    Raises ValueError with what it should be.
    """
    if not manifest.classes:
        return _number(text)
    value = _category(manifest.classes, text)
    if value not in manifest.classes:
        raise ValueError("one of the classes")
    return value


def shift(feature: Feature, value: Value) -> Value:
    """Return a value that has drifted.

    A number or a time is one standard deviation higher, but at most at its maximum; a category is
    the next one, true is false.
    """
    if value is None:
        return None
    if feature.type == "boolean":
        return not value
    if feature.type == "category":
        return _next(feature.categories, value)
    if isinstance(value, str):
        return (_moment(value) + timedelta(seconds=feature.sigma)).isoformat()
    step = max(1, round(feature.sigma)) if feature.type == "integer" else feature.sigma
    return value + step if feature.maximum is None else min(value + step, feature.maximum)


def shift_class(manifest: Manifest, actual: Value, by: float) -> Value:
    """Return a true value that is `by` larger, or a class that is so many places further."""
    if isinstance(actual, bool | str) or manifest.classes:
        classes = manifest.classes
        return classes[(classes.index(actual) + round(by)) % len(classes)]
    return None if actual is None else actual + by


def wrong_literals(feature: Feature) -> Sequence[str]:
    """Return JSON of a type that the feature does not have."""
    others = ("[7.4]", '{"value": 7.4}')
    match _json_type(feature):
        case "text":
            return ("7.4", "true", *others)
        case "boolean":
            return ('"7.4"', "7.4", *others)
    return ('"7.4"', "true", *others)


def bad_literal(feature: Feature) -> str:
    """Return JSON as a careless client sends it for this feature."""
    return "0" if _json_type(feature) == "text" else '"not a number"'


def _json_type(feature: Feature) -> str:
    first: Value = feature.categories[0] if feature.categories else None
    if feature.type == "datetime" or isinstance(first, str):
        return "text"
    return "boolean" if feature.type == "boolean" or isinstance(first, bool) else "number"


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError("a number")
    return number


def _boolean(text: str) -> bool:
    if text.lower() not in _BOOLEANS:
        raise ValueError("true or false")
    return _BOOLEANS[text.lower()]


def _category(known: Sequence[Value], text: str) -> Value:
    """Return the category or class that a cell means, or an unseen one of the same type."""
    if isinstance(known[0], bool):
        return _boolean(text)
    if isinstance(known[0], str):
        return text
    number = _number(text)
    return next((each for each in known if each == number), number)


def _moment(text: str) -> datetime:
    """Return the time of ISO 8601 text, or of seconds since 1970."""
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time in ISO 8601") from None


def _next(categories: Sequence[Value], value: Value) -> Value:
    if value not in categories:
        return value
    return categories[(categories.index(value) + 1) % len(categories)]
