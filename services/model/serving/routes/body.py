"""Reading a body within its limit, and refusing one as FastAPI refuses an invalid one."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from serving.inputs import InvalidInputError, body_error
from serving.metrics import ModelMetrics

# What nginx calls a client that closed its connection; nobody receives it, only metrics see it.
CLIENT_CLOSED_REQUEST = 499


class Problem(BaseModel):
    """One fault of an input."""

    type: str
    loc: list[str | int] = Field(description="Where: `body`, then the field")
    msg: str = Field(description="The reason")


class Refusal(BaseModel):
    """Answer to an input that is refused."""

    detail: list[Problem]


REFUSALS: dict[int | str, dict[str, Any]] = {
    413: {"model": Refusal, "description": "The body is too large"},
    422: {"model": Refusal, "description": "The input is refused, field and reason named"},
}


async def read(request: Request, max_bytes: int) -> bytes:
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


def add_error_handlers(app: FastAPI, metrics: ModelMetrics) -> None:
    """Answer refused inputs, and count why they were refused."""

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, InvalidInputError)  # noqa: S101 for the type checker
        metrics.reject(error.faults)
        return JSONResponse({"detail": error.detail}, error.status_code)

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    app.add_exception_handler(InvalidInputError, refuse)
    app.add_exception_handler(ClientDisconnect, gone)


def _too_large(max_bytes: int) -> InvalidInputError:
    return body_error("too_large", f"The body is larger than {max_bytes} bytes", 413)
