"""`POST /predict` without a framework in the way.

Its documentation, and everything else, is FastAPI's; what both do lives in the parts both call.
"""

import time
from http import HTTPStatus

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.answers import refusal
from serving.body import ClientGoneError, read_body
from serving.http_metrics import CLIENT_CLOSED_REQUEST, RouteMetrics
from serving.inputs import InvalidInputError
from serving.service import Service

_JSON = (b"content-type", b"application/json")


class FastPath:
    """An ASGI application in front of another, which serves all other requests."""

    def __init__(self, app: ASGIApp, service: Service, metrics: RouteMetrics) -> None:
        self._app = app
        self._service = service
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass it on."""
        if scope["type"] != "http" or scope["path"] != "/predict" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        self._metrics.start()
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR
        body = answer = b""
        try:
            body = await read_body(receive, self._service.max_body_bytes)
            answer = await self._service.predict(body)
            status = HTTPStatus.OK
        except InvalidInputError as error:
            self._service.metrics.reject(error.faults)
            status, answer = error.status_code, refusal(error)
        except ClientGoneError:
            status = CLIENT_CLOSED_REQUEST
        finally:
            seconds = time.perf_counter() - start
            self._metrics.finish(status, seconds, len(body), len(answer))
        if status != CLIENT_CLOSED_REQUEST:
            await _send(send, status, answer)


async def _send(send: Send, status: int, answer: bytes) -> None:
    headers = [_JSON, (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
