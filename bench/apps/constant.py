"""The ceiling: an ASGI application that reads the body and answers with constant bytes."""

from types import SimpleNamespace
from typing import Any, ClassVar

from starlette.types import Receive, Scope, Send

from serving.workers import worker

_ANSWER = (
    b'{"target":5.123456789012345,"prediction_id":"'
    + b"x" * 66
    + b'","model_version":"0123456789ab"}'
)
_HEADERS = [
    (b"content-type", b"application/json"),
    (b"content-length", str(len(_ANSWER)).encode()),
]


class Constant:
    """The application, with the state that the worker reads."""

    state = SimpleNamespace(loop_lag=SimpleNamespace(observe=lambda _: None), catch_up=lambda: None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body", False):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": _ANSWER})


app = Constant()


class Worker(worker.Worker):
    """The service's worker with uvicorn's own protocol."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**worker.Worker.CONFIG_KWARGS, "http": "httptools"}
