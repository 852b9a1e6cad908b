"""Labels in, what became of each out."""

import time
from typing import Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from bundle.manifest import Manifest
from serving.feedback import decode
from serving.http.body import read_body
from serving.http.errors import REFUSALS
from serving.inputs import MAX_ROWS, InvalidInputError
from serving.service import Service


class Result(BaseModel):
    """What became of one label."""

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

    @router.post(
        "/feedback",
        summary="Send the true values of predictions",
        description="One label, or a list of up to 1,000; to any replica, at any later time. The"
        " answer is 200 where at least one label counts, and says what became of each.",
        responses={**REFUSALS, 422: {"model": Outcome, "description": "No label counts"}},
        response_model_exclude_none=True,
        openapi_extra=_body(service.manifest),
    )
    async def feedback(request: Request, response: Response) -> Outcome:
        items = await _labels(request, service)
        now = time.time()
        results = [_result(service, item, now) for item in items]
        accepted = sum(result.status == "accepted" for result in results)
        if not accepted:
            response.status_code = 422
        return Outcome(accepted=accepted, rejected=len(items) - accepted, results=results)


async def _labels(request: Request, service: Service) -> list[Any]:
    """Return a body's labels. Raises ClientGoneError, InvalidInputError."""
    try:
        return decode(await read_body(request.receive, service.max_body_bytes))
    except InvalidInputError as error:
        service.feedback.refuse_body()
        # Counted here, and not as a refused row: it says nothing about the model's inputs.
        raise InvalidInputError(error.detail, [], error.status_code) from None


def _result(service: Service, item: Any, now: float) -> Result:  # noqa: ANN401
    rejection = service.feedback.accept(item, now)
    if rejection is None:
        return Result(status="accepted")
    return Result(status="rejected", reason=rejection.reason, message=rejection.message)


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
