"""The inputs of a model made up for the tests, and the decoding of bodies for it."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from serving.inputs import Inputs, InvalidInputError
from serving.values import Row
from tests.support.bundles import FEATURES, make_manifest

IGNORED: list[int] = []
INPUTS = Inputs(make_manifest(), IGNORED.append)
NAMES = [feature.name for feature in FEATURES]
GOOD: dict[str, Any] = dict(zip(NAMES, (1.5, 7, 3, None, 2, -2), strict=True))
MISSING = math.nan


class Decoded(NamedTuple):
    """The rows of a body, and the number of its ignored fields."""

    rows: list[Row]
    ignored: int


def decode_row(body: bytes) -> Decoded:
    """Decode a body of one row. Raises InvalidInputError."""
    IGNORED.clear()
    return Decoded([INPUTS.decode_row(body)], sum(IGNORED))


def decode_batch(body: bytes) -> Decoded:
    """Decode a body of several rows. Raises InvalidInputError."""
    IGNORED.clear()
    return Decoded(INPUTS.decode_batch(body), sum(IGNORED))


def try_row(body: bytes) -> Decoded | InvalidInputError:
    """Return the decoded body of one row, or its rejection; other exceptions are raised."""
    try:
        return decode_row(body)
    except InvalidInputError as error:
        return error


def try_batch(body: bytes) -> Decoded | InvalidInputError:
    """Return the decoded body of several rows, or its rejection; other exceptions are raised."""
    try:
        return decode_batch(body)
    except InvalidInputError as error:
        return error


def same(left: Sequence[Row], right: Sequence[Row]) -> bool:
    """Compare rows bit for bit, with NaN equal to itself and -0.0 not equal to 0.0."""
    return repr([*left]) == repr([*right]) and all(
        type(value) is float for row in (*left, *right) for value in row
    )


def to_json(value: Any) -> bytes:  # noqa: ANN401 any JSON
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()
