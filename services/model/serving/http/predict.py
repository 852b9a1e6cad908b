"""The routes `/predict` and `/predict/batch`."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from bundle.manifest import Manifest
from serving.http.errors import REJECTIONS, respond
from serving.service import Service


def add_predict(router: APIRouter, service: Service) -> None:
    """Add `/predict` and `/predict/batch`."""
    prediction = _prediction_model(service.manifest)
    predictions = _predictions_model(prediction)

    @router.post(
        "/predict",
        summary="Predict one row",
        response_model=prediction,
        responses=REJECTIONS,
        openapi_extra=_body(service.inputs.instance),
    )
    async def predict(request: Request) -> Response:
        # Documents the route, and serves what the fast path (predict_protocol.py) leaves to it.
        return await respond(request, service, service.predict)

    @router.post(
        "/predict/batch",
        summary="Predict up to 1,000 rows",
        response_model=predictions,
        responses=REJECTIONS,
        openapi_extra=_body(service.inputs.batch),
    )
    async def predict_batch(request: Request) -> Response:
        return await respond(request, service, service.predict_batch)


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
        "prediction_id": (str, Field(description="Identifies this prediction in feedback")),
        "version": (str, Field(alias="model_version", description="The model that predicted")),
    }
    return create_model("Prediction", **fields)


def _predictions_model(prediction: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        "predictions": (list[prediction], Field(description="In the instances' order"))  # type: ignore[valid-type]
    }
    return create_model("Predictions", **fields)
