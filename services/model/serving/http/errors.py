"""What every route with a body shares: how it is read, answered, and documented when rejected."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import Request, Response
from pydantic import BaseModel, Field

from serving.answers import Answer
from serving.http.body import read_body
from serving.service import Service


class Problem(BaseModel):
    """One fault of an input."""

    type: str
    loc: list[str | int] = Field(description="Where: `body`, then the field")
    msg: str = Field(description="The reason")


class Rejection(BaseModel):
    """Answer to a rejected input."""

    detail: list[Problem]


REJECTIONS: dict[int | str, dict[str, Any]] = {
    413: {"model": Rejection, "description": "The body is too large"},
    422: {"model": Rejection, "description": "The input is rejected, with field and reason"},
}


async def respond(
    request: Request,
    service: Service,
    handle: Callable[[bytes], Awaitable[Answer]],
    *,
    is_feedback: bool = False,
) -> Response:
    """Return the answer of `handle` to the body, or the answer to the error that it raises."""
    try:
        answer = await handle(await read_body(request.receive, service.max_body_bytes))
    except Exception as error:  # noqa: BLE001 it is counted or logged there
        answer = service.answer_error(error, is_feedback=is_feedback)
    return Response(answer.body, answer.status, media_type="application/json")
