"""The Open Inference Protocol (REST, version 2) under `/v2`, for KServe's and Triton's clients.

Rows pass through the same checks and counters as those of `/predict/batch`; only bodies differ. An
error has the status that it has there, and the protocol's form.
"""

import json
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.datastructures import Headers

from bundle.manifest import Manifest
from serving.answers import Answer, ErrorForm, describe
from serving.events import Prediction
from serving.example import example_row
from serving.http import openapi, tensors
from serving.http.body import decode_json, decompress
from serving.http.errors import respond
from serving.http.routes import get
from serving.inputs import body_error
from serving.service import Service

SERVER = "ml-monitoring"
MODEL = "/v2/models/{name}"
VERSION = MODEL + "/versions/{version}"

# The answer to a request for another model, None for ours.
Error = Response | None
Finder = Callable[..., Awaitable[Error]]
Predictions = Sequence[Prediction]

_TAGS: list[Any] = ["open inference protocol"]
_FORM = ErrorForm(
    lambda error: msgspec.json.encode({"error": describe(error)}),
    b'{"error":"Internal Server Error"}',
)


class ServerMetadata(BaseModel):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(BaseModel):
    """Whether the server is alive."""

    live: bool


class ServerReady(BaseModel):
    """Whether the server is ready."""

    ready: bool


class ModelMetadata(BaseModel):
    """The model's inputs and outputs."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[tensors.TensorMetadata]
    outputs: list[tensors.TensorMetadata]


class ModelReady(BaseModel):
    """Whether the model is ready."""

    name: str
    ready: bool


class ProtocolError(BaseModel):
    """An error, as the Open Inference Protocol writes it."""

    error: str


def add_v2(router: APIRouter, service: Service) -> None:
    """Add every route of the protocol."""
    manifest = service.manifest

    async def find_model(name: str) -> Error:
        return None if name == manifest.name else _not_found(f"There is no model {name}")

    async def find_version(name: str, version: str) -> Error:
        if version == manifest.version:
            return await find_model(name)
        return _not_found(f"There is no version {version} of model {name}")

    _add_server(router, manifest)
    for base, prefix, find in (
        (MODEL, "v2_model", find_model),
        (VERSION, "v2_model_version", find_version),
    ):
        _add_model(router, manifest, base, prefix, find)
        _add_infer(router, service, base, prefix, find)


def _add_server(router: APIRouter, manifest: Manifest) -> None:
    server = ServerMetadata(name=SERVER, version=manifest.version, extensions=[])

    @get(router, "/v2", operation_id="v2_server", tags=_TAGS, summary="Show the server")
    async def metadata() -> ServerMetadata:
        return server

    @get(router, "/v2/health/live", operation_id="v2_live", tags=_TAGS, summary="Check liveness")
    async def live() -> ServerLive:
        return ServerLive(live=True)

    @get(router, "/v2/health/ready", operation_id="v2_ready", tags=_TAGS, summary="Check readiness")
    async def ready() -> ServerReady:
        return ServerReady(ready=True)


def _add_model(router: APIRouter, manifest: Manifest, base: str, prefix: str, find: Finder) -> None:
    """Add the routes that describe the model, below a path with or without its version."""
    model = ModelMetadata(
        name=manifest.name,
        versions=[manifest.version],
        platform=manifest.algorithm,
        inputs=[*map(tensors.input_metadata, manifest.features)],
        outputs=tensors.output_metadata(manifest),
    )
    ready = ModelReady(name=manifest.name, ready=True)
    shared: dict[str, Any] = {"tags": _TAGS, "responses": {404: _NOT_FOUND}}

    @get(
        router,
        base,
        operation_id=prefix,
        summary="Show the model's tensors",
        response_model=ModelMetadata,
        **shared,
    )
    async def metadata(
        error: Annotated[Error, Depends(find)],
    ) -> ModelMetadata | Response:
        return error or model

    @get(
        router,
        f"{base}/ready",
        operation_id=f"{prefix}_ready",
        summary="Check the model's readiness",
        response_model=ModelReady,
        **shared,
    )
    async def is_ready(error: Annotated[Error, Depends(find)]) -> ModelReady | Response:
        return error or ready


def _add_infer(router: APIRouter, service: Service, base: str, prefix: str, find: Finder) -> None:
    @router.post(
        f"{base}/infer",
        operation_id=f"{prefix}_infer",
        tags=_TAGS,
        summary="Predict up to 1,000 rows",
        description="One tensor per feature, of shape [rows] or [rows, 1]; or one matrix of shape"
        " [rows, features], its columns in the order of the features.",
        response_model=tensors.InferResponse,
        responses=_infer_responses(service),
        openapi_extra=openapi.body(openapi.reference(tensors.InferRequest), _examples(service)),
    )
    async def infer(request: Request, error: Annotated[Error, Depends(find)]) -> Response:
        async def answer(body: bytes) -> Answer:
            return _infer(service, _read_json(body, request.headers, service.max_body_bytes))

        return error or await respond(request, service, answer, _FORM)


def _read_json(body: bytes, headers: Headers, max_bytes: int) -> Any:  # noqa: ANN401 any JSON
    if "inference-header-content-length" in headers:
        message = "Binary tensors are not supported: send JSON (binary_data=False)"
        raise body_error("malformed", message)
    return decode_json(decompress(body, headers.get("content-encoding", ""), max_bytes))


def _infer(service: Service, document: Any) -> Answer:  # noqa: ANN401 any JSON
    manifest = service.manifest
    request = tensors.parse_request(document, manifest)
    predictions = service.predict_records(*tensors.to_records(request.inputs, manifest))
    return _encode(manifest, request, predictions)


def _encode(manifest: Manifest, request: tensors.InferRequest, predictions: Predictions) -> Answer:
    requested = None if request.outputs is None else [each.name for each in request.outputs]
    answer = {
        "model_name": manifest.name,
        "model_version": manifest.version,
        **({} if request.id is None else {"id": request.id}),
        "outputs": tensors.to_outputs(predictions, manifest, requested),
    }
    return Answer(HTTPStatus.OK, msgspec.json.encode(answer))


def _not_found(message: str) -> Response:
    return JSONResponse({"error": message}, HTTPStatus.NOT_FOUND)


_NOT_FOUND = openapi.response(
    "There is no such model or version",
    {"Another model": {"error": "There is no model another"}},
    ProtocolError,
)


def _infer_responses(service: Service) -> openapi.Responses:
    by_feature = _examples(service)["By feature"]
    request = tensors.InferRequest.model_validate(by_feature)
    answer = json.loads(_encode(service.manifest, request, [service.example]).body)
    name, value = openapi.fault(service)
    faulty = by_feature | {
        "inputs": [
            each | {"data": [value]} if each["name"] == name else each
            for each in by_feature["inputs"]
        ]
    }

    def decode(body: bytes) -> None:
        inputs = tensors.parse_request(json.loads(body), service.manifest).inputs
        service.inputs.decode_records(*tensors.to_records(inputs, service.manifest))

    return {
        200: openapi.response("The predictions", {"Predictions": answer}),
        404: _NOT_FOUND,
        **openapi.rejections(service, decode, faulty, _FORM, ProtocolError),
    }


def _examples(service: Service) -> openapi.Json:
    row = example_row(service.manifest)
    typed = {
        each.name: each.datatype for each in map(tensors.input_metadata, service.manifest.features)
    }
    columns = [
        {"name": name, "shape": [1], "datatype": _datatype(typed[name]), "data": [value]}
        for name, value in row.items()
    ]
    by_feature = {"By feature": {"id": "1", "inputs": columns}}
    if {each["datatype"] for each in columns} != {"FP64"}:
        return by_feature
    matrix = {"name": "rows", "shape": [1, len(row)], "datatype": "FP64", "data": [*row.values()]}
    return by_feature | {"One matrix": {"inputs": [matrix]}}


def _datatype(datatype: str) -> str:
    """Return the datatype of an example: numbers of any kind may come as FP64."""
    return "FP64" if datatype == "INT64" else datatype
