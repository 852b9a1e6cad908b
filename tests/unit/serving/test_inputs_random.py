"""Random bodies are decoded or rejected as documented, and nothing else happens."""

import json
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from bundle.manifest import Feature
from serving.inputs import BODY, BODY_REASONS, REASONS, Fault, InvalidInputError
from tests.support.bundles import FEATURES
from tests.support.inputs import INPUTS, MISSING, NAMES, Decoded, same, try_batch, try_row

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSED_LIST = {
    *(Fault(name, reason) for name in NAMES for reason in REASONS),
    *(Fault(BODY, reason) for reason in BODY_REASONS),
}

# Tokens of a body, many of which Python's json module cannot write.
NUMBERS = (
    *("0", "-0", "-0.0", "1", "7", "14", "14.0", "3e0", "1e1", "1E+1", "0.5e1", "9", "6", "2.0"),
    *("14.000001", "-1", "-5", "-6", "3.5", "0.1", "1e-400", "5e-324", "1e308", "-1e308"),
    *("2.0000000001", "1000000000.5", "9007199254740993", "1e2", "100.5", "123456789012345678901"),
)
NOT_FINITE = ("1e999", "-1e999", "NaN", "Infinity", "-Infinity", "1" + "0" * 400, "-1" + "0" * 400)
NOT_NUMBERS = (
    *('"3"', '""', '"NaN"', "true", "false", "[]", "[1]", "{}", '{"a": 1}', r'"\ud800"', '"π"'),
    "[" * 50 + "]" * 50,
)
NO_JSON = (
    "",
    "nan",
    "inf",
    "+1",
    "01",
    "1.",
    ".5",
    "0x1",
    "1_000",
    "'1'",
    "None",
    "undefined",
    "-",
)
KEYS = (*NAMES, "unknown", "f0", "", "_body", "model_extra", "__class__")


def random_token(rng: Random) -> str:
    """Return a value of a random kind, mostly a valid number."""
    kinds = (NUMBERS[:14], NUMBERS, NOT_FINITE, NOT_NUMBERS, NO_JSON, ("null",))
    return rng.choice(rng.choices(kinds, (600, 60, 4, 4, 1, 10))[0])


def random_body(rng: Random) -> str:
    """Return one row with shuffled, missing, repeated and unknown fields."""
    fields = [
        (json.dumps(key, ensure_ascii=rng.random() < 0.5), random_token(rng))
        for key in (*(name for name in NAMES if rng.random() < 0.97), *rng.choices(KEYS, k=3)[2:])
    ]
    if rng.random() < 0.8:
        fields = fields[: len(NAMES)]
    rng.shuffle(fields)
    space = rng.choice(("", " ", "\n\t "))
    return "{" + f",{space}".join(f"{key}{space}:{value}" for key, value in fields) + "}"


def mutate(rng: Random, body: bytes) -> bytes:
    """Return a body as a faulty client sends it, mostly unchanged."""
    cut = rng.randrange(len(body))
    changes: tuple[Callable[[], bytes], ...] = (
        lambda: body,
        lambda: body[:cut],
        lambda: body[:cut] + bytes([rng.randrange(256)]) + body[cut + 1 :],
        lambda: body + rng.choice((b" ", b"\n", b"\0", b"x", b"{}", b",")),
        lambda: b"\xef\xbb\xbf" + body,
        lambda: body.decode().encode(rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-7"))),
    )
    return rng.choices(changes, (80, 4, 8, 3, 1, 2))[0]()


def pydantic_alone(body: bytes) -> list[tuple[float, ...]] | None:
    """Return the rows that pydantic validates, or None if it rejects the body."""
    try:
        instance = INPUTS.instance.model_validate_json(body)
    except ValidationError:
        return None
    values = [getattr(instance, name) for name in type(instance).model_fields]
    return [tuple(MISSING if value is None else value for value in values)]


def expected_fault(feature: Feature, fields: dict[str, Any]) -> str | None:
    """Return the documented reason to reject one field of an object, or None."""
    value = fields.get(feature.name)
    if value is None:
        return None if feature.nullable and feature.name in fields else "missing"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "type"
    if not abs(value) <= sys.float_info.max:
        return "not_finite"
    faults = {
        "below": feature.minimum is not None and value < feature.minimum,
        "above": feature.maximum is not None and value > feature.maximum,
        "type": feature.type == "integer" and value != int(value),
    }
    return next((reason for reason, found in faults.items() if found), None)


@pytest.mark.parametrize("seed", range(8))
def test_both_decoders_accept_the_same_bodies(seed: int) -> None:
    """For 16,000 bodies, some of them damaged, msgspec and pydantic give the same row or reject."""
    rng = Random(seed)  # noqa: S311 seeded, no secret
    outcomes: Counter[bool] = Counter()
    for _ in range(2000):
        body = mutate(rng, random_body(rng).encode())
        slow, answer = pydantic_alone(body), try_row(body)

        if isinstance(answer, Decoded):
            assert slow is not None, body
            assert same(answer.rows, slow), body
        else:
            assert slow is None, body
        outcomes[slow is None] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize("seed", range(8))
def test_rows_and_faults_are_as_documented(seed: int) -> None:
    """16,000 objects are compared with rules written out in Python."""
    rng = Random(100 + seed)  # noqa: S311 seeded, no secret
    for _ in range(2000):
        body = random_body(rng)
        try:
            fields = json.loads(body)
        except ValueError:
            continue
        faults = {
            (each.name, reason) for each in FEATURES if (reason := expected_fault(each, fields))
        }

        answer = try_row(body.encode())

        if r"\ud800" in body:
            assert isinstance(answer, InvalidInputError), body
        elif isinstance(answer, Decoded):
            assert not faults, body
            values = [fields[name] for name in NAMES]
            row = tuple(MISSING if value is None else float(value) for value in values)
            assert same([row], answer.rows), body
            assert len(fields.keys() - set(NAMES)) == answer.ignored, body
        else:
            assert faults == set(answer.faults), body


@pytest.mark.parametrize("seed", range(4))
def test_a_rejection_names_field_and_reason(seed: int) -> None:
    """Every rejection has faults of the closed list and a detail that is JSON, at any nesting."""
    rng = Random(200 + seed)  # noqa: S311 seeded, no secret
    rejections = 0
    for _ in range(300):
        bodies = [random_body(rng) for _ in range(rng.randrange(4))]
        batch = '{"instances": [' + ",".join(bodies) + "]}"
        for answer in (
            try_row(mutate(rng, b" ".join(b.encode() for b in bodies) or b" ")),
            try_batch(mutate(rng, batch.encode())),
        ):
            if isinstance(answer, InvalidInputError):
                rejections += 1
                assert answer.faults
                assert set(answer.faults) <= CLOSED_LIST
                json.dumps(answer.detail, allow_nan=False).encode()
                assert all(each["loc"][0] == "body" and each["msg"] for each in answer.detail)
                assert answer.status_code == 422
    assert rejections > 200
