"""Values of every type are read from JSON alike by both decoders, and documented as they are."""

import json
import math
from collections import Counter
from random import Random
from typing import Any

import pytest
from pydantic import ValidationError

from bundle.manifest import Feature
from serving.example import example_row
from serving.inputs import Fault, Inputs, InvalidInputError
from serving.values import Row
from tests.support.bundles import TYPED_FEATURES, make_classification, make_manifest

MANIFEST = make_classification()
IGNORED: list[int] = []
INPUTS = Inputs(MANIFEST, IGNORED.append)
NAMES = [feature.name for feature in TYPED_FEATURES]
GOOD: dict[str, Any] = dict(
    zip(NAMES, (1.5, 4, True, "green", 3, "1970-01-02T00:00:00Z", 0.5), strict=True)
)


def read(body: Any) -> Row | list[Fault]:  # noqa: ANN401 any JSON
    """Return the row of a body, or its faults."""
    try:
        return INPUTS.decode_row(body if isinstance(body, bytes) else json.dumps(body).encode())
    except InvalidInputError as error:
        return [*error.faults]


def test_each_type_has_its_own_value_in_a_row() -> None:
    """Numbers are floats, truth values and categories stay, and a time is in seconds."""
    row = read(GOOD)

    assert repr(row) == repr((1.5, 4.0, True, "green", 3.0, 86_400.0, 0.5))


def test_a_missing_value_is_nan_and_of_a_category_none() -> None:
    """Null is accepted where the bundle allows it."""
    row = read(GOOD | dict.fromkeys(("size", "new", "color", "built")))

    assert repr(row) == repr((math.nan, 4.0, math.nan, None, 3.0, math.nan, 0.5))


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01", 0.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1970-01-01 00:00:01.5", 1.5),
        ("2026-11-27T12:00:00.123456Z", 1_795_780_800.123456),
        ("20261127T120000Z", 1_795_780_800.0),
    ],
)
def test_a_time_is_iso_8601_and_utc_without_offset(text: str, seconds: float) -> None:
    """Dates alone, offsets and fractions are understood."""
    row = read(GOOD | {"built": text})

    assert isinstance(row, tuple)
    assert row[5] == pytest.approx(seconds, abs=1e-6)


def test_an_unseen_category_passes_as_it_is() -> None:
    """The estimator and the metrics decide what it means."""
    row = read(GOOD | {"color": "ultraviolet"})

    assert isinstance(row, tuple)
    assert row[3] == "ultraviolet"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("zone", 2, "not_allowed"),
        ("zone", "3", "type"),
        ("zone", True, "type"),
        ("zone", 3.5, "type"),
        ("zone", None, "missing"),
        ("color", 3, "type"),
        ("color", True, "type"),
        ("color", ["green"], "type"),
        ("new", 1, "type"),
        ("new", "true", "type"),
        ("built", "yesterday", "type"),
        ("built", "2026-13-01", "type"),
        ("built", 86_400, "type"),
        ("built", "1969-12-31", "below"),
        ("rooms", True, "type"),
        ("rooms", 10, "above"),
    ],
)
def test_a_value_of_another_type_is_rejected(name: str, value: Any, reason: str) -> None:  # noqa: ANN401
    """The fault names field and reason, in a row and in a batch."""
    row = GOOD | {name: value}

    assert read(row) == [Fault(name, reason)]
    with pytest.raises(InvalidInputError) as rejected:
        INPUTS.decode_batch(json.dumps({"instances": [GOOD, row]}).encode())
    assert rejected.value.faults == [Fault(name, reason)]


def test_a_rejected_category_is_told_the_known_ones() -> None:
    """The message lists them; it does not repeat what was sent."""
    with pytest.raises(InvalidInputError) as rejected:
        INPUTS.decode_row(json.dumps(GOOD | {"zone": 99}).encode())

    assert rejected.value.detail[0]["msg"] == "Input should be one of 3, 1, 7"


@pytest.mark.parametrize("braces", ["{", "}", "{0}", "%s", "{name}"])
def test_a_category_with_braces_can_be_listed(braces: str) -> None:
    """The message is no template."""
    feature = Feature(
        name="f", description="", type="category", categories=(braces,), unseen="reject"
    )
    inputs = Inputs(make_classification(features=(feature, *TYPED_FEATURES)), IGNORED.append)

    with pytest.raises(InvalidInputError) as rejected:
        inputs.decode_row(json.dumps(GOOD | {"f": "other"}).encode())
    assert rejected.value.detail[0]["msg"] == f"Input should be one of {braces}"


TOKENS = (
    *("0", "1", "3", "3.0", "7", "-0.0", "9", "10", "1e999", "NaN", "2.5", "true", "false", "null"),
    *('"green"', '"x"', '""', '"3"', '"true"', '"1970-01-05"', '"1970-01-05T00:00:00Z"', '"1969"'),
    *(r'"sky \"blue\""', r'"\u03c0\u03c1\u03ac\u03c3\u03b9\u03bd\u03bf"', r'"\ud800"', "[]", "{}"),
)


def alone(body: bytes) -> Row | None:
    """Return the row that pydantic validates, or None if it rejects the body."""
    try:
        instance = INPUTS.instance.model_validate_json(body)
    except ValidationError:
        return None
    return INPUTS._row_of_model(instance)  # noqa: SLF001 the slow decoder by itself


@pytest.mark.parametrize("seed", range(4))
def test_both_decoders_agree_on_every_type(seed: int) -> None:
    """For 8,000 random bodies, msgspec and pydantic give the same row or reject."""
    rng = Random(seed)  # noqa: S311 seeded, no secret
    accepted: Counter[bool] = Counter()
    for _ in range(2000):
        good = {name: json.dumps(value) for name, value in GOOD.items()}
        for name in rng.choices(NAMES, k=rng.randrange(3)):
            good[name] = rng.choice(TOKENS)
        members = ",".join(f"{json.dumps(name)}:{token}" for name, token in good.items())
        body = f"{{{members}}}".encode()
        answer, slow = read(body), alone(body)

        assert repr(answer if isinstance(answer, tuple) else None) == repr(slow), body
        accepted[isinstance(answer, tuple)] += 1
    assert min(accepted.values()) > 200


def test_the_schema_says_what_is_accepted() -> None:
    """Closed lists are enums, open ones are not; a time has its format."""
    schema = INPUTS.instance.model_json_schema()["properties"]

    assert schema["zone"]["enum"] == [3, 1, 7]
    assert "enum" not in json.dumps(schema["color"])
    assert 'Seen in training: green, sky "blue", πράσινο' in schema["color"]["description"]
    assert {"type": "string", "format": "date-time"}.items() <= schema["built"]["anyOf"][0].items()
    assert schema["new"]["anyOf"] == [{"type": "boolean"}, {"type": "null"}]


def test_the_example_row_is_accepted() -> None:
    """It needs no example in the bundle."""
    row = read(example_row(MANIFEST))

    assert isinstance(row, tuple)
    assert not any(isinstance(value, float) and math.isnan(value) for value in row)


def test_nan_of_another_protocol_is_a_missing_value_of_every_type() -> None:
    """Data frames spell it so, also in columns of text."""
    (row,) = INPUTS.decode_records([GOOD | dict.fromkeys(("size", "color", "new"), math.nan)])

    assert repr(row) == repr((math.nan, 4.0, math.nan, None, 3.0, 86_400.0, 0.5))


def test_rows_of_numbers_alone_need_no_further_step() -> None:
    """The fast decoder's tuple is the row."""
    numbers = [Feature(name=name, description="") for name in "ab"]
    inputs = Inputs(make_manifest(numbers), IGNORED.append)
    values = inputs.decode_row(b'{"b": 2, "a": 1}')

    assert repr(values) == "(1.0, 2.0)"
    assert inputs._values.__module__.startswith("msgspec")  # noqa: SLF001
