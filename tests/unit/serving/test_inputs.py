"""A body becomes rows, or a refusal that names field and reason; nothing else ever happens."""

import json
import math
import sys
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from pydantic import ValidationError

from bundle.manifest import Feature
from serving.inputs import (
    BODY,
    BODY_REASONS,
    MAX_ROWS,
    REASONS,
    Fault,
    Inputs,
    InvalidInputError,
    Row,
)
from tests.support.bundles import FEATURES, make_manifest

if TYPE_CHECKING:
    from collections.abc import Callable

IGNORED: list[int] = []
INPUTS = Inputs(make_manifest(), IGNORED.append)
NAMES = [feature.name for feature in FEATURES]
GOOD: dict[str, Any] = dict(zip(NAMES, (1.5, 7, 3, None, 2, -2), strict=True))
MISSING = math.nan
CLOSED_LIST = {
    *(Fault(name, reason) for name in NAMES for reason in REASONS),
    *(Fault(BODY, reason) for reason in BODY_REASONS),
}

# Tokens as they stand in a body: Python's json could not write half of them.
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


class Decoded(NamedTuple):
    """The rows of a body, and how many of its fields were ignored."""

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


def one(body: bytes) -> Decoded | InvalidInputError:
    """Decode a body of one row; any other exception than a rejection passes."""
    try:
        return decode_row(body)
    except InvalidInputError as error:
        return error


def many(body: bytes) -> Decoded | InvalidInputError:
    """Decode a body of several rows, likewise."""
    try:
        return decode_batch(body)
    except InvalidInputError as error:
        return error


def same(left: list[tuple[float, ...]], right: list[tuple[float, ...]]) -> bool:
    """Compare rows bit for bit, with NaN equal to itself and -0.0 not equal to 0.0."""
    return repr(left) == repr(right) and all(
        type(value) is float for row in (*left, *right) for value in row
    )


def text(value: Any) -> bytes:  # noqa: ANN401 any JSON
    """Return a value as JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode()


def random_token(rng: Random) -> str:
    """Return a value of some kind, a good number more often than not."""
    kinds = (NUMBERS[:14], NUMBERS, NOT_FINITE, NOT_NUMBERS, NO_JSON, ("null",))
    return rng.choice(rng.choices(kinds, (600, 60, 4, 4, 1, 10))[0])


def random_body(rng: Random) -> str:
    """Return one row: fields shuffled, some missing, some twice, some unknown."""
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
    """Return a body as a broken client sends it: mostly as it was."""
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
    """Return the rows that the slow path finds, or None where it refuses."""
    try:
        instance = INPUTS.instance.model_validate_json(body)
    except ValidationError:
        return None
    values = [getattr(instance, name) for name in type(instance).model_fields]
    return [tuple(MISSING if value is None else value for value in values)]


def expected_fault(feature: Feature, fields: dict[str, Any]) -> str | None:
    """Return the reason to refuse one field of an object, as the documentation has it."""
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


def test_a_good_row_is_decoded_in_the_order_of_the_features() -> None:
    """Whatever the order in the body; null is NaN where it is allowed; integers are floats."""
    decoded = decode_row(text(dict(reversed(GOOD.items()))))

    assert same([(1.5, 7.0, 3.0, MISSING, 2.0, -2.0)], decoded.rows)
    assert decoded.ignored == 0


@pytest.mark.parametrize("seed", range(8))
def test_fast_path_and_pydantic_agree(seed: int) -> None:
    """On 16,000 bodies in all, some broken, both give the same row or both refuse."""
    rng = Random(seed)  # noqa: S311 seeded, no secret
    outcomes: Counter[bool] = Counter()
    for _ in range(2000):
        body = mutate(rng, random_body(rng).encode())
        slow, answer = pydantic_alone(body), one(body)

        if isinstance(answer, Decoded):
            assert slow is not None, body
            assert same(answer.rows, slow), body
        else:
            assert slow is None, body
        outcomes[slow is None] += 1
    assert min(outcomes.values()) > 50


@pytest.mark.parametrize("seed", range(8))
def test_what_is_accepted_and_why_not_is_as_documented(seed: int) -> None:
    """16,000 objects against rules written out in Python: rows, and every fault."""
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

        answer = one(body.encode())

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
def test_a_refusal_names_field_and_reason(seed: int) -> None:
    """Every refusal has faults of the closed list and a detail that is JSON; at any nesting."""
    rng = Random(200 + seed)  # noqa: S311 seeded, no secret
    refusals = 0
    for _ in range(300):
        bodies = [random_body(rng) for _ in range(rng.randrange(4))]
        batch = '{"instances": [' + ",".join(bodies) + "]}"
        for answer in (
            one(mutate(rng, b" ".join(b.encode() for b in bodies) or b" ")),
            many(mutate(rng, batch.encode())),
        ):
            if isinstance(answer, InvalidInputError):
                refusals += 1
                assert answer.faults
                assert set(answer.faults) <= CLOSED_LIST
                json.dumps(answer.detail, allow_nan=False).encode()
                assert all(each["loc"][0] == "body" and each["msg"] for each in answer.detail)
                assert answer.status_code == 422
    assert refusals > 200


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault(BODY, "empty")),
        (b" \r\n\t", Fault(BODY, "empty")),
        (b"{", Fault(BODY, "malformed")),
        (b"\0", Fault(BODY, "malformed")),
        (b"\xff\xfe", Fault(BODY, "malformed")),
        (b"\xef\xbb\xbf" + text(GOOD), Fault(BODY, "malformed")),
        (text(GOOD).decode().encode("utf-16"), Fault(BODY, "malformed")),
        (text(GOOD).decode().encode("utf-16-be"), Fault(BODY, "malformed")),
        (text(GOOD) + b"x", Fault(BODY, "malformed")),
        (b"{'plain': 1}", Fault(BODY, "malformed")),
        (rb'{"plain": "\ud800"}', Fault(BODY, "malformed")),
        (rb'{"\udfff": 1}', Fault(BODY, "malformed")),
        (b'{"plain": "\xed\xa0\x80"}', Fault(BODY, "malformed")),
        (b"[" * 100_000, Fault(BODY, "malformed")),
        (b'{"plain":' * 100_000, Fault(BODY, "malformed")),
        (b"[]", Fault(BODY, "type")),
        (b"null", Fault(BODY, "type")),
        (b"3", Fault(BODY, "type")),
        (b'"{}"', Fault(BODY, "type")),
        (text([GOOD]), Fault(BODY, "type")),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_is_no_object_is_refused(body: bytes, fault: Fault) -> None:
    """One fault, of the body as a whole."""
    answer = one(body)

    assert isinstance(answer, InvalidInputError)
    assert answer.faults == [fault]


@pytest.mark.parametrize(
    ("name", "token", "reason"),
    [
        ("plain", None, "missing"),
        ("plain", "null", "missing"),
        ("plain", '"1"', "type"),
        ("plain", "true", "type"),
        ("plain", "[1]", "type"),
        ("plain", "NaN", "not_finite"),
        ("plain", "-Infinity", "not_finite"),
        ("plain", "1e999", "not_finite"),
        ("plain", "1" + "0" * 4000, "not_finite"),
        ("pH (value)", "-0.001", "below"),
        ("pH (value)", "14.001", "above"),
        ("count", "1.5", "type"),
        ("count", "2.0000000001", "type"),
        ("count", "1000000000.5", "type"),
        ("count", "-6", "below"),
        ("count", "10000000001", "above"),
        ("maybe", None, "missing"),
        ("maybe", "-1.1", "below"),
        ("few", "0.5", "type"),
        ("Säure σ", "1e3", "above"),
    ],
)
def test_a_faulty_field_is_refused(name: str, token: str | None, reason: str) -> None:
    """One fault, of that field; in a row alone and in a row of a batch."""
    others = text({key: value for key, value in GOOD.items() if key != name}).decode()
    row = others if token is None else f"{others[:-1]}, {json.dumps(name)}: {token}}}"
    good = text(GOOD).decode()

    for answer in (one(row.encode()), many(f'{{"instances": [{good}, {row}]}}'.encode())):
        assert isinstance(answer, InvalidInputError)
        assert answer.faults == [Fault(name, reason)]
        assert answer.detail[0]["loc"][-1] == name


def test_every_fault_is_found() -> None:
    """Not only the first: a row with six faults has six, and a row without fields misses all."""
    bad = dict(zip(NAMES, ("x", 15, 0.5, "", 0.5, 101), strict=True))
    answer, empty = one(text(bad)), one(b"{}")

    assert isinstance(answer, InvalidInputError)
    assert isinstance(empty, InvalidInputError)
    reasons = ("type", "above", "type", "type", "type", "above")
    assert [Fault(*each) for each in zip(NAMES, reasons, strict=True)] == answer.faults
    assert [Fault(name, "missing") for name in NAMES] == empty.faults


def test_bounds_are_inclusive() -> None:
    """What equals the minimum or the maximum is accepted."""
    assert isinstance(one(text({**GOOD, "pH (value)": 0})), Decoded)
    assert isinstance(one(text({**GOOD, "pH (value)": 14})), Decoded)


def test_whole_floats_are_integers() -> None:
    """JSON has one kind of number: 3.0 and 3e0 are 3."""
    for token in ("3", "3.0", "3e0", "30e-1"):
        body = text({**GOOD, "count": 0}).replace(b'"count": 0', f'"count": {token}'.encode())

        assert decode_row(body).rows[0][2] == 3.0


def test_the_last_of_two_equal_names_counts() -> None:
    """As in Python and JavaScript, and whichever decoder reads it."""
    good = text(GOOD).decode()[1:-1]
    for first, last in (("1", "2"), ('"x"', "2")):
        body = f'{{"plain": {first}, {good}, "plain": {last}}}'.encode()

        assert decode_row(body).rows[0][0] == 2.0
        assert decode_row(body).ignored == 0


def test_undeclared_fields_are_ignored_and_told() -> None:
    """The row is served; f0 is our own name of a field and no way in."""
    decoded = decode_row(text({**GOOD, "f0": 9, "f1": "x", "": None}))

    assert same([(1.5, 7.0, 3.0, MISSING, 2.0, -2.0)], decoded.rows)
    assert decoded.ignored == 3


def test_undeclared_fields_of_a_batch_are_ignored_and_told() -> None:
    """Those of the batch and those of its rows."""
    decoded = decode_batch(text({"instances": [{**GOOD, "a": 1}, GOOD, {**GOOD, "b": 1}], "c": 1}))

    assert len(decoded.rows) == 3
    assert decoded.ignored == 3


def test_a_batch_keeps_the_order_of_its_rows() -> None:
    """Row i of the answer is row i of the body, on both paths."""
    rows = [{**GOOD, "plain": number} for number in range(MAX_ROWS)]
    slow = [{**row, "unknown": 1} for row in rows]

    for decoded in (
        decode_batch(text({"instances": rows})),
        decode_batch(text({"instances": slow})),
    ):
        assert [row[0] for row in decoded.rows] == list(range(MAX_ROWS))


@pytest.mark.parametrize(
    ("batch", "reason"),
    [
        ({"instances": []}, "empty"),
        ({"instances": [GOOD] * (MAX_ROWS + 1)}, "too_many"),
        ({}, "type"),
        ({"instances": None}, "type"),
        ({"instances": GOOD}, "type"),
        ({"instances": [1]}, "type"),
        ({"instances": [None]}, "type"),
        ([GOOD], "type"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_batch_of_the_wrong_shape_is_refused(batch: Any, reason: str) -> None:  # noqa: ANN401
    """One fault, of the body."""
    answer = many(text(batch))

    assert isinstance(answer, InvalidInputError)
    assert answer.faults == [Fault(BODY, reason)]


def test_a_bad_batch_counts_every_fault_and_reports_a_hundred() -> None:
    """An answer of a thousand faults would help nobody; the counters know them all."""
    answer = many(text({"instances": [{**GOOD, "plain": "x"}] * 150}))

    assert isinstance(answer, InvalidInputError)
    assert answer.faults == [Fault("plain", "type")] * 150
    assert len(answer.detail) == 100


@pytest.mark.parametrize(
    ("body", "rows"),
    [
        (b"", 1),
        (b'{"instances": [1, 2', 1),
        (b'{"instances": 7}', 1),
        (b'{"instances": []}', 1),
        (b'{"instances": [{}, {}, {}]}', 3),
    ],
)
def test_a_rejected_batch_is_as_many_rejected_rows(body: bytes, rows: int) -> None:
    """A batch is rejected as a whole; a body in which no rows can be found counts as one."""
    answer = many(body)

    assert isinstance(answer, InvalidInputError)
    assert answer.rows == rows


def test_a_row_with_many_faults_is_one_rejected_row() -> None:
    """Every fault is counted by field, the row once."""
    answer = one(b"{}")

    assert isinstance(answer, InvalidInputError)
    assert len(answer.faults) > 1
    assert answer.rows == 1


def test_features_may_be_called_like_anything() -> None:
    """Names of our own structure are no trap: `instances`, `f1`, Python's and pydantic's names."""
    names = ("instances", "f1", "class", "model_fields", "model_config", "copy", "json", "0", " ")
    features = [Feature(name=name, description="") for name in names]
    inputs = Inputs(make_manifest(features), IGNORED.append)
    row = dict(zip(names, range(len(names)), strict=True))

    assert inputs.decode_row(text(row)) == tuple(map(float, range(len(names))))
    assert len(inputs.decode_batch(text({"instances": [row, row]}))) == 2
    with pytest.raises(InvalidInputError) as refused:
        inputs.decode_batch(text({"instances": 1}))
    assert refused.value.faults == [Fault(BODY, "type")]
