"""What every route with a body shares: how one is refused."""

from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from serving.answers import FAILED, refusal
from serving.http.body import ClientGoneError
from serving.inputs import InvalidInputError
from serving.metrics.http import CLIENT_CLOSED_REQUEST
from serving.metrics.predictions import ModelMetrics


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


def add_error_handlers(app: FastAPI, metrics: ModelMetrics) -> None:
    """Answer refused inputs, count why they were refused, and answer failures."""

    async def refuse(_: Request, error: Exception) -> Response:
        assert isinstance(error, InvalidInputError)  # noqa: S101 for the type checker
        metrics.reject(error.faults)
        return Response(refusal(error), error.status_code, media_type="application/json")

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=CLIENT_CLOSED_REQUEST)

    async def fail(_: Request, __: Exception) -> Response:
        return Response(FAILED, 500, media_type="application/json")

    app.add_exception_handler(InvalidInputError, refuse)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(Exception, fail)
