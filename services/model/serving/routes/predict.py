"""Rows in, predictions out."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from bundle.manifest import Manifest
from serving.inputs import OTHER, Decoded, Fault
from serving.metrics import ModelMetrics
from serving.routes.body import REFUSALS, read
from serving.service import Service


def add_predict(router: APIRouter, service: Service) -> None:
    """Add `/predict` and `/predict/batch`."""
    inputs, predictor, answers = service.inputs, service.predictor, service.answers
    prediction = _prediction_model(service.manifest)
    predictions = _predictions_model(prediction)

    @router.post(
        "/predict",
        summary="Predict one row",
        response_model=prediction,
        responses=REFUSALS,
        openapi_extra=_body(inputs.instance),
    )
    async def predict(request: Request) -> Response:
        decoded = inputs.one(await read(request, service.max_body_bytes))
        _count_ignored(service.metrics, decoded)
        value = await predictor.one(decoded.rows[0])
        return Response(answers.one(value), media_type="application/json")

    @router.post(
        "/predict/batch",
        summary="Predict up to 1,000 rows",
        response_model=predictions,
        responses=REFUSALS,
        openapi_extra=_body(inputs.batch),
    )
    async def predict_batch(request: Request) -> Response:
        decoded = inputs.many(await read(request, service.max_body_bytes))
        _count_ignored(service.metrics, decoded)
        values = predictor.many(decoded.rows)
        return Response(answers.many(values), media_type="application/json")


def _count_ignored(metrics: ModelMetrics, decoded: Decoded) -> None:
    if decoded.ignored:
        metrics.reject([Fault(OTHER, "unknown")] * decoded.ignored)


def _body(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI of a body that the route reads itself."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})
    if definitions:
        schema["properties"]["instances"]["items"] = definitions["Instance"]
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def _prediction_model(manifest: Manifest) -> type[BaseModel]:
    target = manifest.target
    value = Field(
        alias=target.name, description=target.description, ge=target.minimum, le=target.maximum
    )
    fields: dict[str, Any] = {
        "value": (float, value),
        "prediction_id": (str, Field(description="Names this prediction; feedback refers to it")),
        "version": (str, Field(alias="model_version", description="The model that predicted")),
    }
    return create_model("Prediction", **fields)


def _predictions_model(prediction: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "predictions": (list[prediction], Field(description="In the instances' order"))  # type: ignore[valid-type]
    }
    return create_model("Predictions", **fields)
