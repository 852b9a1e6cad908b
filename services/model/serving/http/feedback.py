"""The route `/feedback`."""

import time
from typing import Any, Literal

import msgspec
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from bundle.manifest import Manifest
from serving.answers import Answer
from serving.feedback import decode_labels
from serving.http.errors import REJECTIONS, respond
from serving.inputs import MAX_ROWS
from serving.service import Service


class Result(BaseModel):
    """The result of one label."""

    status: Literal["accepted", "rejected"]
    reason: str | None = Field(default=None, description="unknown, expired, duplicate or malformed")
    message: str | None = Field(default=None, description="The reason in words")


class Outcome(BaseModel):
    """Answer of `POST /feedback`."""

    accepted: int
    rejected: int
    results: list[Result] = Field(description="In the labels' order")


def add_feedback(router: APIRouter, service: Service) -> None:
    """Add `/feedback`."""

    async def accept(body: bytes) -> Answer:
        items = decode_labels(body)
        now = time.time()
        results = [_result(service, item, now) for item in items]
        accepted = sum(result["status"] == "accepted" for result in results)
        outcome = {
            "accepted": accepted,
            "rejected": len(items) - accepted,
            "results": results,
        }
        return Answer(200 if accepted else 422, msgspec.json.encode(outcome))

    @router.post(
        "/feedback",
        summary="Send the true values of predictions",
        description="One label, or a list of up to 1,000; to any replica, at any later time. The"
        " status is 200 if at least one label is accepted; the answer has a result for each.",
        response_model=Outcome,
        responses={**REJECTIONS, 422: {"model": Outcome, "description": "No label is accepted"}},
        openapi_extra=_body(service.manifest),
    )
    async def feedback(request: Request) -> Response:
        return await respond(request, service, accept, is_feedback=True)


def _result(service: Service, item: Any, now: float) -> dict[str, str]:  # noqa: ANN401
    rejection = service.feedback.accept(item, now)
    if rejection is None:
        return {"status": "accepted"}
    return {"status": "rejected", "reason": rejection.reason, "message": rejection.message}


def _body(manifest: Manifest) -> dict[str, Any]:
    target = manifest.target
    actual: dict[str, Any] = {"type": "number", "description": target.description}
    if target.minimum is not None:
        actual["minimum"] = target.minimum
    if target.maximum is not None:
        actual["maximum"] = target.maximum
    label = {
        "type": "object",
        "required": ["prediction_id", "actual"],
        "properties": {"prediction_id": {"type": "string"}, "actual": actual},
    }
    labels = {"type": "array", "items": label, "minItems": 1, "maxItems": MAX_ROWS}
    content = {"application/json": {"schema": {"anyOf": [label, labels]}}}
    return {"requestBody": {"required": True, "content": content}}
