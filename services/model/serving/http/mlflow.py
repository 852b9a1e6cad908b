"""MLflow's scoring protocol: `/invocations`, `/ping` and `/version`, for MLflow's clients.

Rows pass through the same checks and counters as those of `/predict/batch`; only bodies differ. An
error has the status that it has there, and MLflow's form. Beside `predictions`, which is all that
MLflow knows, an answer has `prediction_ids`, by which feedback refers to them.
"""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec
from fastapi import APIRouter, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

from bundle.manifest import Value
from serving.answers import Answer, ErrorForm, describe
from serving.events import Prediction
from serving.example import example_row
from serving.http import frames, openapi
from serving.http.body import decode_json, decompress
from serving.http.errors import respond
from serving.http.routes import get
from serving.inputs import MAX_ROWS
from serving.service import Service

_TAGS: list[Any] = ["mlflow"]
_FORM = ErrorForm(
    lambda error: msgspec.json.encode({"error_code": "BAD_REQUEST", "message": describe(error)}),
    b'{"error_code":"INTERNAL_ERROR","message":"Internal Server Error"}',
)


class DataframeSplit(BaseModel):
    """A data frame, as pandas writes it with `orient="split"`; an index is ignored."""

    columns: list[str] | None = Field(default=None, description="Absent: the bundle's features")
    data: list[list[Any]] = Field(max_length=MAX_ROWS, description="Rows of values")


class InvocationsRequest(BaseModel):
    """The rows to predict, in exactly one of four forms."""

    dataframe_split: DataframeSplit | None = None
    dataframe_records: list[dict[str, Any]] | None = Field(default=None, max_length=MAX_ROWS)
    instances: list[dict[str, Any] | list[Any]] | None = Field(
        default=None, max_length=MAX_ROWS, description="Records, or rows of values"
    )
    inputs: dict[str, list[Any]] | list[dict[str, Any] | list[Any]] | None = Field(
        default=None, description="Values by feature, records, or rows of values"
    )


class InvocationsResponse(BaseModel):
    """The predictions."""

    predictions: list[Value] = Field(description="In the order of the rows")
    prediction_ids: list[str] = Field(description="Identify the predictions in feedback")
    probabilities: list[dict[str, float]] | None = Field(
        default=None, description="Probability of each class, if the model has them"
    )
    model_version: str


class MlflowError(BaseModel):
    """An error, as MLflow writes it."""

    error_code: str
    message: str


def add_mlflow(router: APIRouter, service: Service) -> None:
    """Add every route of the protocol."""
    split, record = _split(example_row(service.manifest)), example_row(service.manifest)
    faulty = _split(openapi.faulty_row(service))
    example = json.loads(_encode(service, [service.example]).body)

    def decode(body: bytes) -> Sequence[Any]:
        document = decode_json(body)
        return service.inputs.decode_records(*frames.to_records(document, service.inputs.names))

    @router.post(
        "/invocations",
        operation_id="invocations",
        tags=_TAGS,
        summary="Predict up to 1,000 rows",
        description="`prediction_ids`, `probabilities` and `model_version` are additions to"
        " MLflow's answer.",
        response_model=InvocationsResponse,
        responses={
            200: openapi.response("The predictions", {"Predictions": example}),
            **openapi.rejections(service, decode, faulty, _FORM, MlflowError),
        },
        openapi_extra=openapi.body(
            openapi.reference(InvocationsRequest),
            {
                "A data frame": split,
                "Records": {"dataframe_records": [record]},
                "Instances": {"instances": [[*record.values()]]},
                "Inputs": {"inputs": {name: [value] for name, value in record.items()}},
            },
        ),
    )
    async def invocations(request: Request) -> Response:
        encoding = request.headers.get("content-encoding", "")

        async def answer(body: bytes) -> Answer:
            document = decode_json(decompress(body, encoding, service.max_body_bytes))
            records = frames.to_records(document, service.inputs.names)
            return _encode(service, service.predict_records(*records))

        return await respond(request, service, answer, _FORM)

    _add_information(router, service.manifest.version)


def _add_information(router: APIRouter, model_version: str) -> None:
    @get(
        router,
        "/ping",
        operation_id="ping",
        tags=_TAGS,
        summary="Check readiness",
        description="The body is an empty line.",
        response_class=Response,
    )
    async def ping() -> Response:
        return Response("\n", media_type="application/json")

    @get(
        router,
        "/version",
        operation_id="version",
        tags=_TAGS,
        summary="Show the model's version",
        description="As plain text. MLflow's own server shows MLflow's version; none runs here.",
        response_class=PlainTextResponse,
    )
    async def version() -> str:
        return model_version


def _encode(service: Service, predictions: Sequence[Prediction]) -> Answer:
    probabilities = {}
    if service.manifest.probabilities:
        probabilities["probabilities"] = [*map(service.answers.probabilities, predictions)]
    answer = {
        "predictions": [each.prediction for each in predictions],
        "prediction_ids": [each.prediction_id for each in predictions],
        **probabilities,
        "model_version": service.manifest.version,
    }
    return Answer(HTTPStatus.OK, msgspec.json.encode(answer))


def _split(row: openapi.Json) -> openapi.Json:
    return {"dataframe_split": {"columns": [*row], "data": [[*row.values()]]}}
