"""`POST /predict` without a framework in the way: from a connection's bytes to its bytes.

uvicorn's protocol parses every request. A row to predict then goes straight to the service; all
else, and a row that comes in a rare way, becomes an ASGI request to FastAPI, whose route gives the
same answers.
"""

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.answers import FAILED, refusal
from serving.events import Prediction
from serving.http.body import too_large
from serving.inputs import InvalidInputError
from serving.metrics.http import CLIENT_CLOSED_REQUEST, RouteMetrics
from serving.service import Service

# How long a connection at rest is left open by a worker that stops: a request may be on its way.
_LAST_REQUEST_SECONDS = 0.5

log = logging.getLogger(__name__)

Headers = list[tuple[bytes, bytes]]


class FastPath:
    """What the exchanges of one worker share. An application holds it as `app.state.fast_path`."""

    def __init__(self, service: Service, metrics: RouteMetrics) -> None:
        self.service = service
        self.metrics = metrics
        self._headers: Headers = []
        self._heads: dict[int, bytes] = {}

    def head(self, status: int, headers: Headers) -> bytes:
        """Return an answer's first lines: status, uvicorn's own headers, type."""
        if headers is not self._headers:
            # Once a second: uvicorn makes a new list, with a new date.
            self._headers, self._heads = headers, {}
        if status not in self._heads:
            self._heads[status] = b"".join(
                [
                    f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode(),
                    *(b"%b: %b\r\n" % each for each in headers),
                    b"content-type: application/json\r\n",
                ]
            )
        return self._heads[status]


class Protocol(HttpToolsProtocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app: Any = config.app
        self.fast_path: FastPath = app.state.fast_path
        self._is_last = False

    def on_headers_complete(self) -> None:
        """Start an exchange, or leave the request to uvicorn."""
        if self.url == b"/predict" and self.parser.get_method() == b"POST" and self._is_plain():
            keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
            self.cycle = Exchange(self, keep_alive=keep_alive)  # type: ignore[assignment]
        else:
            super().on_headers_complete()
        if self._is_last and self.cycle is not None:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close after the answer that is due or, at rest, after one more request or a moment.

        To close a connection at rest at once, as uvicorn does, is to lose what has just been sent.
        """
        if self._is_at_rest():
            self._is_last = True
            self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_at_rest)
        else:
            super().shutdown()

    def _close_at_rest(self) -> None:
        if self._is_at_rest():
            self.transport.close()

    def _is_at_rest(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _is_plain(self) -> bool:
        """Tell that no answer must come before this one, and that nothing else must be sent."""
        return (
            self._is_at_rest()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.parser.should_upgrade()
        )


class Exchange:
    """A prediction's request and answer, in the place of uvicorn's cycle of a request.

    The protocol adds to `body`, clears `more_body` at the end, sets `disconnected`, and each time
    calls `message_event.set()`. The predictor sets a result or an exception, as of a future.
    """

    def __init__(self, protocol: Protocol, *, keep_alive: bool) -> None:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = keep_alive
        self._protocol = protocol
        self._service = protocol.fast_path.service
        self._metrics = protocol.fast_path.metrics
        self._asked = False
        self._start = time.perf_counter()
        self._metrics.start()

    @property
    def message_event(self) -> "Exchange":
        """What is told that something has arrived."""
        return self

    def set(self) -> None:
        """Go on with what has arrived."""
        if self._asked or self.response_complete:
            return
        try:
            self._go_on()
        except InvalidInputError as error:
            self._refuse(error)
        except Exception as error:  # noqa: BLE001 the parser would take it for the client's
            self.set_exception(error)

    def _go_on(self) -> None:
        limit = self._service.max_body_bytes
        if len(self.body) > limit:
            raise too_large(limit)
        if not self.more_body:
            self._asked = True
            self._service.predict_soon(self.body, self)
        elif self.disconnected:
            self._finish(CLIENT_CLOSED_REQUEST, b"")
        else:
            self._protocol.flow.resume_reading()

    def done(self) -> bool:
        """Tell whether there is an answer."""
        return self.response_complete

    def set_result(self, prediction: Prediction | None) -> None:
        """Answer with a prediction."""
        try:
            answer = self._service.answers.one(prediction)
        except InvalidInputError as error:
            self._refuse(error)
        else:
            self._send(HTTPStatus.OK, answer)

    def set_exception(self, error: Exception) -> None:
        """Answer that this service failed."""
        log.error("a prediction failed", exc_info=error)
        self.keep_alive = False
        self._send(HTTPStatus.INTERNAL_SERVER_ERROR, FAILED)

    def _refuse(self, error: InvalidInputError) -> None:
        self._service.metrics.reject(error.faults)
        self._send(error.status_code, refusal(error))

    def _send(self, status: int, answer: bytes) -> None:
        protocol = self._protocol
        head = protocol.fast_path.head(status, protocol.server_state.default_headers)
        close = b"" if self.keep_alive else b"connection: close\r\n"
        if not protocol.transport.is_closing():
            protocol.transport.write(
                b"%bcontent-length: %d\r\n%b\r\n%b" % (head, len(answer), close, answer)
            )
        self._finish(status, answer)
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def _finish(self, status: int, answer: bytes) -> None:
        self.response_complete = True
        seconds = time.perf_counter() - self._start
        self._metrics.finish(status, seconds, len(self.body), len(answer))
