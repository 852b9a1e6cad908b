"""The types of features: how JSON carries a value, and what a row holds of it.

| type | JSON | row |
| --- | --- | --- |
| number, integer | number | float |
| boolean | true or false | bool |
| category | what its categories are: text, number, or true and false | str, float or bool |
| datetime | text, ISO 8601; UTC where it has no offset | seconds since 1970 as float |

A missing value is null in JSON. In a row it is NaN, or None for a category.

A value passes two steps: JSON's own type, which both decoders check (see inputs.py), and here the
function that makes it the row's value or rejects it. Both decoders call the same function.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import nan
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from bundle.encode import Cell
from bundle.manifest import Feature, Manifest

# Names the known categories up to this number, and counts those beyond it.
_SHOWN = 20

Row = tuple[Cell, ...]
Reader = Callable[[Any], Cell]
"""Returns the row's value for one that has JSON's type. Raises ValueError."""


def wire_type(feature: Feature) -> Any:  # noqa: ANN401 a type form
    """Return what msgspec shall decode."""
    kind: Any = _json_type(feature)
    if kind is float:
        kind = Annotated[float, _bounds(feature)]
    return kind | None if feature.nullable else kind


def schema_type(feature: Feature) -> Any:  # noqa: ANN401 a type form
    """Return what pydantic shall validate and document."""
    kind: Any = Annotated[_json_type(feature), _documented(feature)]
    if _is_whole(feature):
        kind = Annotated[kind, AfterValidator(_whole_number)]
    if read := _reader(feature):
        kind = Annotated[kind, AfterValidator(read)]
    return kind | None if feature.nullable else kind


def readers(features: Sequence[Feature]) -> list[tuple[int, Reader]]:
    """Return the functions for the columns whose value is not simply JSON's, or NaN for null."""
    found = []
    for index, feature in enumerate(features):
        if read := _with_missing(feature):
            found.append((index, read))
    return found


def missing_value(feature: Feature) -> Cell:
    """Return what a row holds of a missing value."""
    return None if feature.type == "category" else nan


def seconds_since_1970(text: str) -> float:
    """Return the time that an ISO 8601 text states, in UTC where it has no offset.

    Raises ValueError.
    """
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def known_categories(feature: Feature) -> str:
    """Return the categories in words."""
    shown = ", ".join(map(to_text, feature.categories[:_SHOWN]))
    more = len(feature.categories) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def target_field(manifest: Manifest) -> tuple[Any, dict[str, Any]]:
    """Return the type of the target and how pydantic documents it: a number, or one of classes."""
    target = manifest.target
    if manifest.task == "regression":
        limits = {"ge": target.minimum, "le": target.maximum}
        return float, {"description": target.description, **limits}
    kinds = {*map(type, manifest.classes)}
    kind: Any = kinds.pop() if len(kinds) == 1 else bool | int | float | str
    extra = {"enum": [*manifest.classes]}
    return kind, {"description": target.description, "json_schema_extra": extra}


def to_text(value: Any) -> str:  # noqa: ANN401 a category or a class
    """Return a category or a class as JSON would write it, text without its quotes."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _with_missing(feature: Feature) -> Reader | None:
    read = _reader(feature)
    if not feature.nullable:
        return read
    missing = missing_value(feature)
    if read is not None:
        return lambda value: missing if value is None else read(value)
    # A row's missing values are NaN until here.
    return (lambda value: value) if feature.type == "category" else None


def _reader(feature: Feature) -> Reader | None:
    if feature.type == "datetime":
        return lambda text: _check_range(feature, _parse(text))
    if feature.type == "category" and feature.unseen == "reject":
        return _member_of(feature)
    return None


def _parse(text: str) -> float:
    try:
        return seconds_since_1970(text)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "datetime_parsing", "Input should be a date and time in ISO 8601"
        ) from None


def _check_range(feature: Feature, seconds: float) -> float:
    if feature.minimum is not None and seconds < feature.minimum:
        raise PydanticCustomError("greater_than_equal", "Input is before the first allowed time")
    if feature.maximum is not None and seconds > feature.maximum:
        raise PydanticCustomError("less_than_equal", "Input is after the last allowed time")
    return seconds


def _member_of(feature: Feature) -> Reader:
    allowed = frozenset(feature.categories)
    expected = known_categories(feature)

    def read(value: Any) -> Cell:  # noqa: ANN401 text, number or bool
        if value not in allowed:
            raise PydanticCustomError("literal_error", f"Input should be one of {expected}")
        member: Cell = value
        return member

    return read


def _json_type(feature: Feature) -> type:
    """Return str, float or bool."""
    if feature.type == "category":
        kinds = {*map(type, feature.categories)}
        return kinds.pop() if kinds in ({str}, {bool}) else float
    return {"boolean": bool, "datetime": str}.get(feature.type, float)


def _is_whole(feature: Feature) -> bool:
    if feature.type == "category":
        return {*map(type, feature.categories)} == {int}
    return feature.type == "integer"


def _bounds(feature: Feature) -> msgspec.Meta:
    whole = 1 if _is_whole(feature) else None
    if feature.type == "category":
        return msgspec.Meta(multiple_of=whole)
    return msgspec.Meta(ge=feature.minimum, le=feature.maximum, multiple_of=whole)


def _documented(feature: Feature) -> Any:  # noqa: ANN401 pydantic's FieldInfo
    extra: dict[str, Any] = {}
    if _is_whole(feature):
        extra["multipleOf"] = 1
    if feature.type == "datetime":
        extra["format"] = "date-time"
    if feature.type == "category" and feature.unseen == "reject":
        extra["enum"] = [*feature.categories]
    kind = _json_type(feature)
    limits: dict[str, Any] = {"allow_inf_nan": False} if kind is float else {}
    if kind is float and feature.type != "category":
        limits |= {"ge": feature.minimum, "le": feature.maximum}
    return Field(strict=True, json_schema_extra=extra or None, **limits)


def _whole_number(value: float) -> float:
    """Reject fractions. pydantic's multiple_of has a tolerance and accepts 1000000000.5."""
    if not value.is_integer():
        raise ValueError("Input should be a whole number")
    return value
