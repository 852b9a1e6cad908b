"""The routes `/predict` and `/predict/batch`."""

import json
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from bundle.manifest import Manifest
from serving.example import example_row
from serving.http import openapi
from serving.http.errors import respond
from serving.service import Service
from serving.values import target_field


def add_predict(router: APIRouter, service: Service) -> None:
    """Add `/predict` and `/predict/batch`."""
    one, many = _response_models(service.manifest)
    row, faulty = example_row(service.manifest), openapi.faulty_row(service)
    answer, batch = (
        json.loads(each.body)
        for each in (
            service.answers.encode(service.example),
            service.answers.encode_batch([service.example]),
        )
    )

    @router.post(
        "/predict",
        operation_id="predict",
        tags=["predictions"],
        summary="Predict one row",
        description="Undeclared fields are ignored and counted.",
        response_model=one,
        responses={
            200: openapi.response("The prediction", {"A prediction": answer}),
            **openapi.rejections(service, service.inputs.decode_row, faulty),
        },
        openapi_extra=openapi.body(openapi.reference(service.inputs.instance), {"A row": row}),
    )
    async def predict(request: Request) -> Response:
        # Documents the route, and serves what the fast path (predict_protocol.py) leaves to it.
        return await respond(request, service, service.predict)

    @router.post(
        "/predict/batch",
        operation_id="predict_batch",
        tags=["predictions"],
        summary="Predict up to 1,000 rows",
        description="A batch is accepted or rejected as a whole.",
        response_model=many,
        responses={
            200: openapi.response("The predictions", {"Predictions": batch}),
            **openapi.rejections(
                service, service.inputs.decode_batch, {"instances": [row, faulty]}
            ),
        },
        openapi_extra=openapi.body(
            openapi.reference(service.inputs.batch), {"Rows": {"instances": [row]}}
        ),
    )
    async def predict_batch(request: Request) -> Response:
        return await respond(request, service, service.predict_batch)


def _response_models(manifest: Manifest) -> tuple[type[BaseModel], type[BaseModel]]:
    """Return the answers to one row and to a batch."""
    kind, field = target_field(manifest)
    fields: dict[str, Any] = {"value": (kind, Field(alias=manifest.target.name, **field))}
    if manifest.probabilities:
        text = "Probability of each class; the predicted class is the most likely one"
        fields["probabilities"] = (dict[str, float], Field(description=text))
    fields |= {
        "prediction_id": (str, Field(description="Identifies this prediction in feedback")),
        "version": (str, Field(alias="model_version", description="The model that predicted")),
    }
    one = create_model("PredictResponse", __doc__="The prediction of one row.", **fields)
    predictions: Any = (list[one], Field(description="In the order of the instances"))  # type: ignore[valid-type]
    many = create_model(
        "PredictBatchResponse", __doc__="The predictions of a batch.", predictions=predictions
    )
    return one, many
