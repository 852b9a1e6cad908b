"""The HTTP API: what is not framework here is a body's way to a prediction and back."""

import json
import math
import time
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field, create_model
from starlette.requests import ClientDisconnect

from bundle.manifest import Manifest
from serving.inputs import OTHER, Decoded, Fault, Inputs, InvalidInputError, body_error
from serving.metrics import ModelMetrics
from serving.prediction_id import Signer
from serving.predictor import Predictor

# What nginx calls a client that closed its connection; nobody receives it, only metrics see it.
CLIENT_CLOSED_REQUEST = 499


@dataclass(frozen=True)
class Service:
    """What the routes work with; one per worker."""

    manifest: Manifest
    inputs: Inputs
    metrics: ModelMetrics
    predictor: Predictor
    signer: Signer
    max_body_bytes: int


class Links(BaseModel):
    """Answer of `GET /`."""

    name: str = Field(description="The model")
    version: str = Field(description="Its version")
    links: dict[str, str] = Field(description="Where to go from here")


class Status(BaseModel):
    """Answer of the health checks."""

    status: str


def create_router(service: Service) -> APIRouter:
    """Return every route."""
    router = APIRouter()
    _add_information(router, service.manifest)
    _add_predictions(router, service)
    return router


def add_error_handlers(app: FastAPI, metrics: ModelMetrics) -> None:
    """Answer refused inputs as FastAPI answers a validation error, and count them."""

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, InvalidInputError)  # noqa: S101 for the type checker
        metrics.reject(error.faults)
        return JSONResponse({"detail": error.detail}, error.status_code)

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(InvalidInputError, refuse)
    app.add_exception_handler(ClientDisconnect, gone)


def _add_information(router: APIRouter, manifest: Manifest) -> None:
    @router.get("/", summary="Which model this is")
    async def root() -> Links:
        links = {name: f"/{name}" for name in ("docs", "predict", "healthz", "readyz")}
        return Links(name=manifest.name, version=manifest.version, links=links)

    @router.get("/healthz", summary="The process is alive")
    @router.get("/healthcheck", summary="The older name of /healthz", include_in_schema=False)
    async def healthz() -> Status:
        return Status(status="ok")

    @router.get("/readyz", summary="The model is loaded")
    async def readyz() -> Status:
        # A worker answers nothing before its model is loaded and has predicted once.
        return Status(status="ready")


def _add_predictions(router: APIRouter, service: Service) -> None:
    inputs, metrics, predictor = service.inputs, service.metrics, service.predictor
    answer = _Answer(service)
    prediction = _prediction_model(service.manifest)
    predictions = create_model(
        "Predictions",
        predictions=(list[prediction], Field(description="In the instances' order")),  # type: ignore[valid-type]
    )

    @router.post(
        "/predict",
        summary="Predict one row",
        response_model=prediction,
        responses=_REFUSALS,
        openapi_extra=_body_schema(inputs.instance),
    )
    async def predict(request: Request) -> Response:
        decoded = inputs.one(await _read(request, service.max_body_bytes))
        _count_ignored(metrics, decoded)
        value = await predictor.one(decoded.rows[0])
        return Response(answer.one(value), media_type="application/json")

    @router.post(
        "/predict/batch",
        summary="Predict up to 1,000 rows",
        response_model=predictions,
        responses=_REFUSALS,
        openapi_extra=_body_schema(inputs.batch),
    )
    async def predict_batch(request: Request) -> Response:
        decoded = inputs.many(await _read(request, service.max_body_bytes))
        _count_ignored(metrics, decoded)
        values = predictor.many(decoded.rows)
        return Response(answer.many(values), media_type="application/json")


class _Answer:
    """Writes predictions as JSON; all but value and id is prepared."""

    def __init__(self, service: Service) -> None:
        self._sign = service.signer.sign
        self._before = "{" + json.dumps(service.manifest.target.name) + ":"
        version = json.dumps(service.manifest.version)
        self._after = f'","model_version":{version}}}'

    def one(self, value: float) -> str:
        """Return the JSON of one prediction. Raises InvalidInputError where there is none."""
        if not math.isfinite(value):
            raise body_error("no_prediction", "The model has no finite prediction for these values")
        signed = self._sign(value, time.time())
        return f'{self._before}{value!r},"prediction_id":"{signed}{self._after}'

    def many(self, values: list[float]) -> str:
        """Return the JSON of several predictions; all or none."""
        return '{"predictions":[' + ",".join(map(self.one, values)) + "]}"


async def _read(request: Request, max_bytes: int) -> bytes:
    """Return the body. Raises InvalidInputError (413) without reading more than `max_bytes`."""
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > max_bytes:
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(max_bytes: int) -> InvalidInputError:
    return body_error("too_large", f"The body is larger than {max_bytes} bytes", 413)


def _count_ignored(metrics: ModelMetrics, decoded: Decoded) -> None:
    if decoded.ignored:
        metrics.reject([Fault(OTHER, "unknown")] * decoded.ignored)


def _body_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI of a body that the route reads itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    if "instances" in schema["properties"]:
        schema["properties"]["instances"]["items"] = definitions["Instance"]
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def _prediction_model(manifest: Manifest) -> type[BaseModel]:
    target = manifest.target
    fields: dict[str, Any] = {
        "value": (
            float,
            Field(
                alias=target.name,
                description=target.description,
                ge=target.minimum,
                le=target.maximum,
            ),
        ),
        "prediction_id": (str, Field(description="Names this prediction; feedback refers to it")),
        "model_version": (str, Field(description="Version of the model that predicted")),
    }
    return create_model("Prediction", **fields)


_REFUSAL_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": {"type": "string"},
                    "loc": {"type": "array", "items": {}},
                    "msg": {"type": "string"},
                },
            },
        }
    },
}


def _refusal(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "content": {"application/json": {"schema": _REFUSAL_SCHEMA}},
    }


_REFUSALS: dict[int | str, dict[str, Any]] = {
    413: _refusal("The body is too large"),
    422: _refusal("The input is refused: `loc` names the field, `msg` the reason"),
}
