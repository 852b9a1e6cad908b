"""What every route with a body shares: how it is read, answered, and documented when rejected."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from pydantic import BaseModel, Field

from serving.answers import DETAIL, Answer, ErrorForm
from serving.http.body import read_body
from serving.http.connection import OVER_LIMIT
from serving.http.rejection import CLOSING, CONNECTIONS, retry_after
from serving.overload import OverloadError
from serving.service import Service


class Fault(BaseModel):
    """One fault of an input."""

    type: str = Field(description="A short name of the reason")
    loc: list[str | int] = Field(
        description="Where: `body`, then the field; of a batch `body`, `instances`, row, field"
    )
    msg: str = Field(description="The reason in words")


class ErrorResponse(BaseModel):
    """The answer to a rejected input."""

    detail: list[Fault]


async def respond(
    request: Request,
    service: Service,
    handle: Callable[[bytes], Awaitable[Answer]],
    form: ErrorForm = DETAIL,
    *,
    is_feedback: bool = False,
) -> Response:
    """Return the answer of `handle` to the body, or the answer to the error that it raises."""
    try:
        if request.scope.get("state", {}).get(OVER_LIMIT):
            raise OverloadError(CONNECTIONS.reason)  # noqa: TRY301 as what the calls below raise
        body = await read_body(request, service.max_body_bytes)
        service.load.check()
        answer = await handle(body)
    except Exception as error:  # noqa: BLE001 it is counted or logged there
        answer = service.answer_error(error, form, is_feedback=is_feedback)
    response = Response(answer.body, answer.status, media_type="application/json")
    response.raw_headers += retry_after(answer.status)
    if answer.status in CLOSING:
        response.headers.append("connection", "close")
    return response
