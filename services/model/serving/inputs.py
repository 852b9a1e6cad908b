"""The one place where a request body becomes rows of features.

Two decoders read the same schema, built from the bundle. msgspec is the fast one: what it accepts
is served. It stops at the first fault, so a body that it rejects goes to pydantic, which finds
every fault, describes each in words, and provides the schema for the documentation.
"""

from collections.abc import Callable, Iterable, Sequence
from math import isnan, nan
from typing import Annotated, Any, NamedTuple

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic_core import from_json, to_json

from bundle.manifest import Feature, Manifest
from serving.example import example_row
from serving.values import (
    Row,
    known_categories,
    missing_value,
    readers,
    schema_type,
    wire_type,
)

BODY = "_body"
OTHER = "_other"
MAX_ROWS = 1_000
_MAX_REPORTED = 100
# The position of a feature's name in pydantic's location of a fault: (name,), (instances, i, name).
_PLACE_IN_ROW, _PLACE_IN_BATCH = 0, 2

# pydantic's error types, mapped to the closed list of reasons that the metrics have.
FIELD_REASONS = {
    "missing": "missing",
    "finite_number": "not_finite",
    "greater_than_equal": "below",
    "less_than_equal": "above",
    "literal_error": "not_allowed",
}
REASONS = ("missing", "type", "not_finite", "below", "above", "not_allowed")
_BODY_REASONS = {"json_invalid": "malformed", "too_long": "too_many", "too_short": "empty"}
BODY_REASONS = ("malformed", "type", "empty", "too_large", "too_many", "no_prediction")


class Fault(NamedTuple):
    """One reason why an input was rejected, as counted: (field, reason)."""

    field: str
    reason: str


class InvalidInputError(Exception):
    """The input is rejected.

    `detail` gives the reasons as FastAPI would; `faults` and the number of rejected `rows` are to
    be counted. A batch is rejected as a whole. A body in which no rows can be found counts as one.
    """

    def __init__(
        self,
        detail: list[dict[str, Any]],
        faults: Sequence[Fault] = (),
        *,
        rows: int = 1,
        status_code: int = 422,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = faults
        self.rows = rows
        self.status_code = status_code


def body_error(
    reason: str, message: str, *, rows: int = 1, status_code: int = 422
) -> InvalidInputError:
    """Return the error that rejects a whole body."""
    detail = [{"type": reason, "loc": ["body"], "msg": message}]
    return InvalidInputError(detail, [Fault(BODY, reason)], rows=rows, status_code=status_code)


def check_size(body: bytes | bytearray, max_bytes: int) -> None:
    """Raise InvalidInputError for a body, complete or not, that exceeds its limit."""
    check_length(len(body), max_bytes)


def check_length(length: int, max_bytes: int) -> None:
    """Raise InvalidInputError for a body's length that exceeds its limit."""
    if length > max_bytes:
        raise body_error("too_large", f"The body is larger than {max_bytes} bytes", status_code=413)


def check_rows(rows: int) -> None:
    """Raise InvalidInputError for more rows than a request may have."""
    if rows > MAX_ROWS:
        raise body_error("too_many", f"At most {MAX_ROWS} rows are allowed, not {rows}", rows=rows)


class Inputs:
    """Decodes bodies into rows: values in the features' order, as `serving.values` describes them.

    `count_ignored` receives the number of undeclared fields of a body that has some.
    """

    def __init__(self, manifest: Manifest, count_ignored: Callable[[int], None]) -> None:
        self._count_ignored = count_ignored
        self.names = [feature.name for feature in manifest.features]
        self.instance = _pydantic_model(manifest)
        self.batch = _batch_model(self.instance)
        struct = _msgspec_struct(manifest.features)
        instances = Annotated[list[struct], msgspec.Meta(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
        batch: Any = msgspec.defstruct(
            "Batch", [("instances", instances)], forbid_unknown_fields=True
        )
        self._row_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)
        self._batch_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(batch)
        self._nullable = [feature.name for feature in manifest.features if feature.nullable]
        self._missing = [missing_value(feature) for feature in manifest.features]
        self._readers = readers(manifest.features)
        self._values: Callable[[Any], Row] = msgspec.structs.astuple
        if self._readers:
            self._values = self._read
        elif self._nullable:
            self._values = _row_of_struct

    def decode_row(self, body: bytes | bytearray) -> Row:
        """Return the row of a body `{feature: value, …}`. Raises InvalidInputError."""
        try:
            return self._values(self._row_decoder.decode(body))
        except (msgspec.MsgspecError, RecursionError, ValueError):
            instance = self._validate(self.instance, body, _PLACE_IN_ROW)
            self._ignore(instance)
            return self._row_of_model(instance)

    def decode_batch(self, body: bytes) -> list[Row]:
        """Return the rows of `{"instances": [row, …]}`. Raises InvalidInputError."""
        try:
            return [*map(self._values, self._batch_decoder.decode(body).instances)]
        except (msgspec.MsgspecError, RecursionError, ValueError):
            batch = self._validate(self.batch, body, _PLACE_IN_BATCH)
            instances: list[BaseModel] = batch.instances  # type: ignore[attr-defined]
            self._ignore(batch, *instances)
            return [*map(self._row_of_model, instances)]

    def decode_records(self, records: Sequence[Any], ignored: int = 0) -> list[Row]:
        """Return the rows of records `{feature: value, …}` from the body of another protocol.

        It had `ignored` undeclared values, which the records lack.

        They pass through the batch's own form, so that checks and counts are those of a batch. A
        nullable feature may also be NaN: that is how arrays and data frames spell a missing value.
        Raises InvalidInputError.
        """
        instances = [*map(self._without_nan, records)] if self._nullable else records
        rows = self.decode_batch(to_json({"instances": instances}, inf_nan_mode="constants"))
        if ignored:
            self._count_ignored(ignored)
        return rows

    def _read(self, instance: Any) -> Row:  # noqa: ANN401 a generated struct
        values = msgspec.structs.astuple(instance)
        row = [nan if value is None else value for value in values]
        for index, read in self._readers:
            row[index] = read(values[index])
        return tuple(row)

    def _row_of_model(self, instance: BaseModel) -> Row:
        values = [getattr(instance, name) for name in type(instance).model_fields]
        return tuple(
            [
                missing if value is None else value
                for value, missing in zip(values, self._missing, strict=True)
            ]
        )

    def _without_nan(self, record: Any) -> Any:  # noqa: ANN401 anything a client sent
        if not isinstance(record, dict):
            return record
        missing = [name for name in self._nullable if _is_nan(record.get(name))]
        return record | dict.fromkeys(missing) if missing else record

    def _ignore(self, *models: BaseModel) -> None:
        if ignored := sum(len(each.model_extra or {}) for each in models):
            self._count_ignored(ignored)

    def _validate(self, model: type[BaseModel], body: bytes | bytearray, place: int) -> BaseModel:
        if not body.strip():
            raise body_error("empty", "The body is empty: send a JSON object")
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            rows = _count_instances(body) if place == _PLACE_IN_BATCH else 1
            raise self._rejection(error, place, rows) from None

    def _rejection(self, error: ValidationError, place: int, rows: int) -> InvalidInputError:
        errors = error.errors(include_url=False, include_context=False)
        detail = [
            # Never the input itself: JSON cannot hold a NaN or half a surrogate pair.
            {"type": each["type"], "loc": ["body", *each["loc"]], "msg": each["msg"]}
            for each in errors[:_MAX_REPORTED]
        ]
        return InvalidInputError(detail, [self._fault(each, place) for each in errors], rows=rows)

    def _fault(self, error: Any, place: int) -> Fault:  # noqa: ANN401 pydantic's ErrorDetails
        if len(error["loc"]) <= place:
            return Fault(BODY, _BODY_REASONS.get(error["type"], "type"))
        field = error["loc"][place]
        if error["input"] is None:
            return Fault(field, "missing")
        return Fault(field, FIELD_REASONS.get(error["type"], "type"))


def _row_of_struct(instance: Any) -> Row:  # noqa: ANN401 a generated struct
    return tuple([nan if value is None else value for value in msgspec.structs.astuple(instance)])


def _is_nan(value: Any) -> bool:  # noqa: ANN401 anything a client sent
    return isinstance(value, float) and isnan(value)


def _count_instances(body: bytes | bytearray) -> int:
    """Return the number of rows of a batch that was rejected, 1 where none can be found."""
    try:
        document = from_json(body)
    except ValueError:
        return 1
    instances = document.get("instances") if isinstance(document, dict) else None
    return max(1, len(instances)) if isinstance(instances, list) else 1


def _attribute(index: int) -> str:
    """Return a valid identifier, whatever the name of the column."""
    return f"f{index}"


def _msgspec_struct(features: Iterable[Feature]) -> type[msgspec.Struct]:
    fields = [
        (_attribute(index), wire_type(feature), msgspec.field(name=feature.name))
        for index, feature in enumerate(features)
    ]
    return msgspec.defstruct("Instance", fields, forbid_unknown_fields=True)


def _pydantic_model(manifest: Manifest) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for index, feature in enumerate(manifest.features):
        field = Field(
            alias=feature.name,
            title=feature.name,
            description=_description(feature),
            examples=None if feature.example is None else [feature.example],
        )
        fields[_attribute(index)] = (schema_type(feature), field)
    example: Any = example_row(manifest)
    config = ConfigDict(extra="allow", json_schema_extra={"examples": [example]})
    return create_model("PredictRequest", __config__=config, __doc__="One row.", **fields)


def _description(feature: Feature) -> str:
    unit = f" ({feature.unit})" if feature.unit else ""
    known = ""
    if feature.type == "category" and feature.unseen == "pass":
        known = f". Seen in training: {known_categories(feature)}"
    return feature.description + unit + known


def _batch_model(instance: type[BaseModel]) -> type[BaseModel]:
    instances = Annotated[list[instance], Field(min_length=1, max_length=MAX_ROWS)]  # type: ignore[valid-type]
    return create_model(
        "PredictBatchRequest",
        __config__=ConfigDict(extra="allow"),
        __doc__=f"1 to {MAX_ROWS:,} rows.",
        instances=(instances, ...),
    )
