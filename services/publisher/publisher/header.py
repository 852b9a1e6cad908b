"""The first line of a segment: the model that made the predictions, and a checksum."""

import json
import re
import zlib
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

_CHECKSUM = re.compile(rb'(.*),"crc32":"([0-9a-f]{8})"\}', re.DOTALL)
_FORMAT = re.compile(rb'\{"spool":(\d+)[,}]')
FORMAT = 1

Category = bool | int | float | str
"""A category or a class, of the type that it has in JSON."""
ColumnType = Literal["number", "integer", "boolean", "category", "datetime"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True)


class Range(_Strict):
    """Minimum and maximum of the values, both inclusive."""

    minimum: float | None = None
    maximum: float | None = None


class Column(Range):
    """A feature; a datetime's values are in s since 1970, a category's are often `categories`."""

    name: str
    type: ColumnType = "number"
    categories: tuple[Category, ...] = ()


class Target(Column):
    """What is predicted: a number, or one of `classes`."""

    classes: tuple[Category, ...] = ()


class Outcome(Range):
    """The predictions: numbers in a range, or classes, with the probability of each or without."""

    probabilities: bool = False


class Header(_Strict):
    """The model version whose predictions a segment holds."""

    spool: Literal[1]
    model: str
    version: str
    task: Literal["regression", "classification"]
    features: tuple[Column, ...]
    prediction: Outcome
    target: Target

    @model_validator(mode="after")
    def _classes_belong_to_a_classification(self) -> Self:
        if (self.task == "classification") != bool(self.target.classes):
            raise ValueError("a classification has classes, and a regression has none")
        return self


class DamagedHeaderError(Exception):
    """The header has changed since it was written; the message says how that was noticed."""


class UnknownHeaderError(Exception):
    """The header is intact, but this publisher does not understand it: a newer one may."""


def to_text(value: Category) -> str:
    """Return a category or a class as JSON would write it, text without its quotes."""
    return value if isinstance(value, str) else json.dumps(value)


def read_header(line: bytes) -> Header:
    """Return the header in a segment's first line.

    Raises DamagedHeaderError or UnknownHeaderError.
    """
    protected = _CHECKSUM.fullmatch(line)
    if protected and zlib.crc32(protected[1] + b"}") != int(protected[2], 16):
        raise DamagedHeaderError("the checksum does not match")
    try:
        return Header.model_validate_json(line)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        message = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        written = _FORMAT.match(line)
        if protected or (written and int(written[1]) > FORMAT):
            raise UnknownHeaderError(message) from error
        raise DamagedHeaderError(message) from error
