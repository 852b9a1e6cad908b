"""The route `/feedback`."""

import json
import time
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, create_model

from bundle.manifest import Manifest
from serving.answers import Answer
from serving.feedback import Rejection, decode_labels
from serving.http import openapi
from serving.http.errors import ErrorResponse, respond
from serving.inputs import MAX_ROWS
from serving.service import Service
from serving.values import target_field

_ACCEPTED = {"status": "accepted"}
# What the example's id is answered with; nobody may label a prediction that was never made.
_UNKNOWN = Rejection("unknown", "`prediction_id` is not signed by this service")


class LabelResult(BaseModel):
    """The result of one label."""

    status: Literal["accepted", "rejected"]
    reason: Literal["unknown", "expired", "duplicate", "malformed"] | None = Field(
        default=None, description="Why it was rejected"
    )
    message: str | None = Field(default=None, description="The reason in words")


class FeedbackResponse(BaseModel):
    """The answer to one or more labels."""

    accepted: int = Field(description="How many were accepted")
    rejected: int = Field(description="How many were rejected")
    results: list[LabelResult] = Field(description="In the order of the labels")


def add_feedback(router: APIRouter, service: Service) -> None:
    """Add `/feedback`."""
    label = label_model(service.manifest)
    good = {
        "prediction_id": service.example.prediction_id,
        "actual": service.example.prediction,
    }
    accepted = _answer([_ACCEPTED])
    unknown = _answer([_rejected(_UNKNOWN)])
    rejections = openapi.rejections(service, decode_labels, [])
    faulty = rejections[422]["content"]["application/json"]["examples"]["a_fault"]["value"]

    async def accept(body: bytes) -> Answer:
        now = time.time()
        return _answer([_result(service, item, now) for item in decode_labels(body)])

    @router.post(
        "/feedback",
        operation_id="feedback",
        tags=["predictions"],
        summary="Send the true values of predictions",
        description="One label, or a list of up to 1,000; to any replica, at any later time. The"
        " status is 200 if at least one label is accepted; the answer has a result for each.",
        response_model=FeedbackResponse,
        responses={
            200: openapi.response("A label is accepted", {"Accepted": json.loads(accepted.body)}),
            413: rejections[413],
            503: rejections[503],
            422: openapi.response(
                "No label is accepted: a result for each, or the fault of the body",
                {"A rejected label": json.loads(unknown.body), "A faulty body": faulty},
                FeedbackResponse | ErrorResponse,
            ),
        },
        openapi_extra=openapi.body(
            _one_or_many(openapi.reference(label)), {"A label": good, "Labels": [good]}
        ),
    )
    async def feedback(request: Request) -> Response:
        return await respond(request, service, accept, is_feedback=True)


def label_model(manifest: Manifest) -> type[BaseModel]:
    """Return the schema of a label."""
    kind, field = target_field(manifest)
    fields: dict[str, Any] = {
        "prediction_id": (
            str,
            Field(min_length=1, description="As the prediction's answer has it"),
        ),
        "actual": (kind, Field(**field)),
    }
    return create_model("FeedbackLabel", __doc__="The true value of one prediction.", **fields)


def _one_or_many(label: openapi.Json) -> openapi.Json:
    labels = {"type": "array", "items": label, "minItems": 1, "maxItems": MAX_ROWS}
    return {"anyOf": [label, labels]}


def _answer(results: list[dict[str, str]]) -> Answer:
    accepted = results.count(_ACCEPTED)
    outcome = {
        "accepted": accepted,
        "rejected": len(results) - accepted,
        "results": results,
    }
    return Answer(200 if accepted else 422, msgspec.json.encode(outcome))


def _result(service: Service, item: Any, now: float) -> dict[str, str]:  # noqa: ANN401
    rejection = service.feedback.accept(item, now)
    return _ACCEPTED if rejection is None else _rejected(rejection)


def _rejected(rejection: Rejection) -> dict[str, str]:
    return {"status": "rejected", "reason": rejection.reason, "message": rejection.message}
