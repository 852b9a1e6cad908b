"""Tensors of the Open Inference Protocol (REST, version 2), and records of features.

The inputs are one tensor per feature, of shape [rows] or [rows, 1], or one matrix of shape
[rows, features] in the bundle's order, whose name is free. Data is row-major, flat or nested. Text
is BYTES, true and false are BOOL or the numbers 1 and 0.
"""

from collections.abc import Iterable, Sequence
from itertools import chain
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from bundle.manifest import Feature, Manifest, Value
from serving.events import Prediction
from serving.http.records import Records, of_columns, of_matrix
from serving.inputs import InvalidInputError, body_error

PREDICTION_ID = "prediction_id"
PROBABILITIES = "probabilities"

Parameters = dict[str, Any]
# An error repeats names.
Name = Annotated[str, Field(max_length=200)]
_INTEGERS = ("INT64", "INT32")
_DATATYPES = ("FP64", "FP32", *_INTEGERS, "BOOL", "BYTES")
_DATATYPE_OF = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP64"}
Dimension = Annotated[int, Field(ge=0)]


class InferInputTensor(BaseModel):
    """One input: a feature, or the matrix of all features. NaN or null is a missing value."""

    name: Name
    shape: list[Dimension] = Field(min_length=1, max_length=2)
    datatype: Name = Field(description="FP64, FP32, INT64, INT32, BOOL, or BYTES for text")
    parameters: Parameters | None = None
    data: list[Any] = Field(description="Row-major, flat or nested")


class InferRequestedOutput(BaseModel):
    """An output to be returned."""

    name: Name
    parameters: Parameters | None = None


class InferRequest(BaseModel):
    """The rows to predict."""

    id: str | None = Field(default=None, description="Comes back in the answer")
    parameters: Parameters | None = None
    inputs: list[InferInputTensor] = Field(min_length=1)
    outputs: list[InferRequestedOutput] | None = Field(
        default=None, description="Outputs to be returned; all if absent"
    )


class InferOutputTensor(BaseModel):
    """One output, of shape [rows]; the probabilities are [rows, classes], row-major."""

    name: str
    shape: list[int]
    datatype: Literal["FP64", "INT64", "BOOL", "BYTES"]
    data: list[Value]


class InferResponse(BaseModel):
    """The predictions, and the ids by which feedback refers to them."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[InferOutputTensor]


class TensorMetadata(BaseModel):
    """An input or an output of the model; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: list[int]


def parse_request(document: Any, manifest: Manifest) -> InferRequest:  # noqa: ANN401 any JSON
    """Return a request whose outputs exist. Raises InvalidInputError."""
    try:
        request = InferRequest.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise body_error("type", f"{place}: {first['msg']}") from None
    known = [each.name for each in output_metadata(manifest)]
    for output in request.outputs or ():
        if output.name not in known:
            raise body_error("type", f"outputs: {output.name} is not one of {', '.join(known)}")
    return request


def to_records(inputs: Sequence[InferInputTensor], manifest: Manifest) -> Records:
    """Return the rows of some tensors. Raises InvalidInputError."""
    records = _to_records(inputs, [each.name for each in manifest.features])
    truths = [each.name for each in manifest.features if _datatype(each) == "BOOL"]
    for record in records.rows if truths else ():
        for name in truths:
            if name in record:
                record[name] = _as_bool(record[name])
    return records


def _to_records(inputs: Sequence[InferInputTensor], names: Sequence[str]) -> Records:
    first = inputs[0]
    if len(inputs) == 1 and first.name not in names and len(first.shape) == 2:  # noqa: PLR2004
        return _of_matrix(first, names)
    columns = {each.name: _column(each) for each in inputs}
    if len(columns) < len(inputs):
        raise body_error("type", "inputs: A tensor's name comes twice")
    return of_columns(columns, names, "inputs")


def to_outputs(
    predictions: Sequence[Prediction], manifest: Manifest, requested: Iterable[str] | None
) -> list[dict[str, Any]]:
    """Return the output tensors, or those of them that are requested."""
    tensors = {each.name: each for each in output_metadata(manifest)}
    data: dict[str, list[Any]] = {
        manifest.target.name: [each.prediction for each in predictions],
        PREDICTION_ID: [each.prediction_id for each in predictions],
    }
    if manifest.probabilities:
        rows = (each.probabilities or () for each in predictions)
        data[PROBABILITIES] = [*chain.from_iterable(rows)]
    return [
        {
            "name": name,
            "shape": [len(predictions), *tensors[name].shape[1:]],
            "datatype": tensors[name].datatype,
            "data": data[name],
        }
        for name in requested or tensors
    ]


def input_metadata(feature: Feature) -> TensorMetadata:
    """Return what a feature's tensor looks like."""
    datatype = _datatype(feature)
    # Tensors of integers and of truth values cannot hold NaN.
    if feature.nullable and datatype in ("INT64", "BOOL"):
        datatype = "FP64"
    return TensorMetadata(name=feature.name, datatype=datatype, shape=[-1])


def output_metadata(manifest: Manifest) -> list[TensorMetadata]:
    """Return what the output tensors look like."""
    datatype = _datatype_of(manifest.classes) if manifest.classes else "FP64"
    outputs = [TensorMetadata(name=manifest.target.name, datatype=datatype, shape=[-1])]
    if manifest.probabilities:
        shape = [-1, len(manifest.classes)]
        outputs.append(TensorMetadata(name=PROBABILITIES, datatype="FP64", shape=shape))
    return [*outputs, TensorMetadata(name=PREDICTION_ID, datatype="BYTES", shape=[-1])]


def _datatype(feature: Feature) -> str:
    if feature.type == "category":
        return _datatype_of(feature.categories)
    return {"integer": "INT64", "boolean": "BOOL", "datetime": "BYTES"}.get(feature.type, "FP64")


def _datatype_of(values: Iterable[Value]) -> str:
    """Return the datatype that holds all of these values; numbers of two types are FP64."""
    kinds = {*map(type, values)}
    return _DATATYPE_OF[kinds.pop()] if len(kinds) == 1 else "FP64"


def _as_bool(value: Any) -> Any:  # noqa: ANN401 any JSON
    """Return true or false for 1 or 0, anything else as it is."""
    return bool(value) if isinstance(value, int | float) and value in (0, 1) else value


def _of_matrix(tensor: InferInputTensor, names: Sequence[str]) -> Records:
    columns = tensor.shape[1]
    if columns != len(names):
        raise _error(tensor, f"it has {columns} columns, and the model has {len(names)} features")
    values = _values(tensor)
    starts = range(0, len(values), columns)
    return of_matrix([values[at : at + columns] for at in starts], names, names, "inputs")


def _column(tensor: InferInputTensor) -> list[Any]:
    if tensor.shape[1:] not in ([], [1]):
        raise _error(tensor, f"its shape is {tensor.shape}, and must be [rows] or [rows, 1]")
    return _values(tensor)


def _values(tensor: InferInputTensor) -> list[Any]:
    """Return the values of a tensor, flat, as many as its shape says."""
    if tensor.datatype not in _DATATYPES:
        known = ", ".join(_DATATYPES)
        raise _error(tensor, f"its datatype is {tensor.datatype}, which is not one of {known}")
    values = _flatten(tensor) if tensor.data and isinstance(tensor.data[0], list) else tensor.data
    if len(values) != prod(tensor.shape):
        raise _error(tensor, f"its shape is {tensor.shape}, and it has {len(values)} values")
    if tensor.datatype in _INTEGERS and not all(map(_is_whole, values)):
        raise _error(
            tensor, f"its datatype is {tensor.datatype}, and a value is not a whole number"
        )
    return values


def _flatten(tensor: InferInputTensor) -> list[Any]:
    width = tensor.shape[-1]
    if len(tensor.shape) == 1 or any(
        not isinstance(row, list) or len(row) != width for row in tensor.data
    ):
        raise _error(tensor, f"its data does not have the shape {tensor.shape}")
    return [*chain.from_iterable(tensor.data)]


def _is_whole(value: Any) -> bool:  # noqa: ANN401 any JSON
    return not isinstance(value, float) or value.is_integer()


def _error(tensor: InferInputTensor, message: str) -> InvalidInputError:
    return body_error("type", f"inputs: tensor {tensor.name}: {message}")
