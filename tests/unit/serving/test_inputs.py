"""A body becomes rows, or a rejection that names field and reason."""

import json
from typing import Any

import pytest

from bundle.manifest import Feature
from serving.inputs import BODY, MAX_ROWS, Fault, Inputs, InvalidInputError
from tests.support.bundles import make_manifest
from tests.support.inputs import (
    GOOD,
    IGNORED,
    MISSING,
    NAMES,
    Decoded,
    decode_batch,
    decode_row,
    same,
    to_json,
    try_batch,
    try_row,
)


def test_a_valid_row_is_decoded_in_the_order_of_the_features() -> None:
    """The order in the body does not matter; an allowed null is NaN, and integers are floats."""
    decoded = decode_row(to_json(dict(reversed(GOOD.items()))))

    assert same([(1.5, 7.0, 3.0, MISSING, 2.0, -2.0)], decoded.rows)
    assert decoded.ignored == 0


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", Fault(BODY, "empty")),
        (b" \r\n\t", Fault(BODY, "empty")),
        (b"{", Fault(BODY, "malformed")),
        (b"\0", Fault(BODY, "malformed")),
        (b"\xff\xfe", Fault(BODY, "malformed")),
        (b"\xef\xbb\xbf" + to_json(GOOD), Fault(BODY, "malformed")),
        (to_json(GOOD).decode().encode("utf-16"), Fault(BODY, "malformed")),
        (to_json(GOOD).decode().encode("utf-16-be"), Fault(BODY, "malformed")),
        (to_json(GOOD) + b"x", Fault(BODY, "malformed")),
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
        (to_json([GOOD]), Fault(BODY, "type")),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_that_is_no_object_is_rejected(body: bytes, fault: Fault) -> None:
    """It has one fault, of the body as a whole."""
    answer = try_row(body)

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
def test_an_invalid_field_is_rejected(name: str, token: str | None, reason: str) -> None:
    """The field has one fault, in a single row and in a row of a batch."""
    others = to_json({key: value for key, value in GOOD.items() if key != name}).decode()
    row = others if token is None else f"{others[:-1]}, {json.dumps(name)}: {token}}}"
    good = to_json(GOOD).decode()

    for answer in (try_row(row.encode()), try_batch(f'{{"instances": [{good}, {row}]}}'.encode())):
        assert isinstance(answer, InvalidInputError)
        assert answer.faults == [Fault(name, reason)]
        assert answer.detail[0]["loc"][-1] == name


def test_every_fault_of_a_row_is_reported() -> None:
    """A row with six faults has six, and a row without fields misses all."""
    bad = dict(zip(NAMES, ("x", 15, 0.5, "", 0.5, 101), strict=True))
    answer, empty = try_row(to_json(bad)), try_row(b"{}")

    assert isinstance(answer, InvalidInputError)
    assert isinstance(empty, InvalidInputError)
    reasons = ("type", "above", "type", "type", "type", "above")
    assert [Fault(*each) for each in zip(NAMES, reasons, strict=True)] == answer.faults
    assert [Fault(name, "missing") for name in NAMES] == empty.faults


def test_bounds_are_inclusive() -> None:
    """Values that equal the minimum or the maximum are accepted."""
    assert isinstance(try_row(to_json({**GOOD, "pH (value)": 0})), Decoded)
    assert isinstance(try_row(to_json({**GOOD, "pH (value)": 14})), Decoded)


def test_a_whole_number_is_an_integer_in_any_notation() -> None:
    """JSON has one kind of number, so 3.0 and 3e0 are 3."""
    for token in ("3", "3.0", "3e0", "30e-1"):
        body = to_json({**GOOD, "count": 0}).replace(b'"count": 0', f'"count": {token}'.encode())

        assert decode_row(body).rows[0][2] == 3.0


def test_the_last_of_two_equal_names_counts() -> None:
    """Both decoders use the last value, as Python and JavaScript do."""
    good = to_json(GOOD).decode()[1:-1]
    for first, last in (("1", "2"), ('"x"', "2")):
        body = f'{{"plain": {first}, {good}, "plain": {last}}}'.encode()

        assert decode_row(body).rows[0][0] == 2.0
        assert decode_row(body).ignored == 0


def test_undeclared_fields_are_ignored_and_counted() -> None:
    """The row is accepted; f0 is an internal name of a field and has no effect."""
    decoded = decode_row(to_json({**GOOD, "f0": 9, "f1": "x", "": None}))

    assert same([(1.5, 7.0, 3.0, MISSING, 2.0, -2.0)], decoded.rows)
    assert decoded.ignored == 3


def test_undeclared_fields_of_a_batch_are_ignored_and_counted() -> None:
    """Fields of the batch and of its rows are counted."""
    decoded = decode_batch(
        to_json({"instances": [{**GOOD, "a": 1}, GOOD, {**GOOD, "b": 1}], "c": 1})
    )

    assert len(decoded.rows) == 3
    assert decoded.ignored == 3


def test_a_batch_keeps_the_order_of_its_rows() -> None:
    """Row i of the result is row i of the body, for both decoders."""
    rows = [{**GOOD, "plain": number} for number in range(MAX_ROWS)]
    slow = [{**row, "unknown": 1} for row in rows]

    for decoded in (
        decode_batch(to_json({"instances": rows})),
        decode_batch(to_json({"instances": slow})),
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
def test_a_batch_of_the_wrong_shape_is_rejected(batch: Any, reason: str) -> None:  # noqa: ANN401
    """It has one fault, of the body as a whole."""
    answer = try_batch(to_json(batch))

    assert isinstance(answer, InvalidInputError)
    assert answer.faults == [Fault(BODY, reason)]


def test_an_invalid_batch_counts_every_fault_and_reports_a_hundred() -> None:
    """Counters have every fault, while the answer remains short."""
    answer = try_batch(to_json({"instances": [{**GOOD, "plain": "x"}] * 150}))

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
def test_every_row_of_a_rejected_batch_counts_as_rejected(body: bytes, rows: int) -> None:
    """A batch is rejected as a whole; a body in which no rows can be found counts as one."""
    answer = try_batch(body)

    assert isinstance(answer, InvalidInputError)
    assert answer.rows == rows


def test_a_row_with_several_faults_is_one_rejected_row() -> None:
    """Every fault is counted by field, the row once."""
    answer = try_row(b"{}")

    assert isinstance(answer, InvalidInputError)
    assert len(answer.faults) > 1
    assert answer.rows == 1


def test_features_can_have_any_name() -> None:
    """Names used internally, by Python or by pydantic cause no conflict."""
    names = ("instances", "f1", "class", "model_fields", "model_config", "copy", "json", "0", " ")
    features = [Feature(name=name, description="") for name in names]
    inputs = Inputs(make_manifest(features), IGNORED.append)
    row = dict(zip(names, range(len(names)), strict=True))

    assert inputs.decode_row(to_json(row)) == tuple(map(float, range(len(names))))
    assert len(inputs.decode_batch(to_json({"instances": [row, row]}))) == 2
    with pytest.raises(InvalidInputError) as rejected:
        inputs.decode_batch(to_json({"instances": 1}))
    assert rejected.value.faults == [Fault(BODY, "type")]
