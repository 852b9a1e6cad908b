"""`POST /predict` without ASGI and FastAPI: the fast path.

uvicorn's protocol class parses every request (connection.py). A plain request to predict one row
then goes straight to the service. Everything else, and a row that arrives in an unusual way
(pipelined, `Expect`), becomes an ASGI request to FastAPI, whose route gives the same bytes
(tests/service/test_fast_path.py).

Why it exists: ASGI, middleware and FastAPI's routing take more time than everything else that
happens to a row. Without it, one core answers 6,772 requests/s instead of 33,982
(docs/performance.md); `./task bench -- serving` measures both. To remove it, set
`MODEL_FAST_PATH=false`, or delete this file and its use in app.py and workers/worker.py.

It relies on these attributes of uvicorn, which tests/unit/serving/test_dependencies.py guards:
HttpToolsProtocol's url, parser, cycle, flow, transport, loop, server_state, expect_100_continue and
on_response_complete; and, of a cycle, the attributes and methods that Exchange has.
"""

import asyncio
import time
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.answers import CLIENT_CLOSED, OK, Answer
from serving.events import Prediction
from serving.http.connection import Connection
from serving.http.rejection import CLOSING, Headers, retry_after, status_line
from serving.inputs import check_size
from serving.metrics.http import RouteMetrics
from serving.service import ClientGoneError, Service


class FastPath:
    """What the exchanges of one worker share. An application has it as `app.state.fast_path`."""

    def __init__(self, service: Service, metrics: RouteMetrics) -> None:
        self.service = service
        self.metrics = metrics
        self._headers: Headers = []
        self._heads: dict[int, bytes] = {}

    def head(self, status: int, headers: Headers) -> bytes:
        """Return the start of a response: its status line and uvicorn's own headers."""
        if headers is not self._headers:
            # Once a second: uvicorn makes a new list, with a new date.
            self._headers, self._heads = headers, {}
        if status not in self._heads:
            lines = [b"%b: %b\r\n" % each for each in headers]
            self._heads[status] = status_line(status) + b"".join(lines)
        return self._heads[status]


class Protocol(Connection):
    """One connection whose plain predictions take the fast path."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app: Any = config.app
        self.fast_path: FastPath | None = app.state.fast_path

    def start_cycle(self) -> None:
        """Start an exchange, or leave the request to uvicorn."""
        if self.url == b"/predict" and self._is_plain() and self.fast_path is not None:
            keep_alive = self.parser.should_keep_alive() and self.parser.get_http_version() == "1.1"
            self.cycle = Exchange(self, self.fast_path, keep_alive=keep_alive)  # type: ignore[assignment]
        else:
            super().start_cycle()

    def _is_plain(self) -> bool:
        """Return whether this is a POST before which no answer and no interim response is due."""
        return (
            self.parser.get_method() == b"POST"
            and self._is_idle()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and not self.is_over_limit
        )


class Exchange:
    """One prediction's request and answer, in the place of uvicorn's request-response cycle.

    The protocol adds to `body`, clears `more_body` at the end, sets `disconnected`, and each time
    calls `message_event.set()`. To the predictor, an exchange is a future.
    """

    # The answer is written in one piece.
    response_started = False

    def __init__(self, protocol: Protocol, fast_path: FastPath, *, keep_alive: bool) -> None:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive = keep_alive
        self._protocol = protocol
        self._fast_path = fast_path
        self._service = fast_path.service
        self._enqueued = False
        self._start = time.perf_counter()
        fast_path.metrics.start()

    @property
    def message_event(self) -> "Exchange":
        """The object that is notified when something has arrived."""
        return self

    def set(self) -> None:
        """Continue with what has arrived."""
        if self._enqueued or self.response_complete:
            return
        try:
            self._continue()
        except Exception as error:  # noqa: BLE001 the parser would take it for the client's error
            self.set_exception(error)

    def _continue(self) -> None:
        service = self._service
        check_size(self.body, service.max_body_bytes)
        if not self.more_body:
            self._enqueued = True
            service.load.check()
            service.predictor.enqueue(service.inputs.decode_row(self.body), self)
        elif self.disconnected:
            raise ClientGoneError
        else:
            self._protocol.flow.resume_reading()

    def done(self) -> bool:
        """Return whether there is an answer."""
        return self.response_complete

    def set_result(self, prediction: Prediction | None) -> None:
        """Answer with a prediction."""
        try:
            answer = self._service.answers.encode(prediction)
        except Exception as error:  # noqa: BLE001 as of any prediction
            self.set_exception(error)
        else:
            self._send(answer)

    def set_exception(self, error: Exception) -> None:
        """Answer with an error."""
        self._send(self._service.answer_error(error))

    def _send(self, answer: Answer) -> None:
        self.response_complete = self.response_started = True
        protocol, (status, body) = self._protocol, answer
        self._fast_path.metrics.answer(status)
        if status in CLOSING:
            self.keep_alive = False
        if answer is not CLIENT_CLOSED and not protocol.transport.is_closing():
            head = self._fast_path.head(status, protocol.server_state.default_headers)
            rest = b"" if status == OK and self.keep_alive else self._rest(status)
            protocol.transport.write(
                b"%bcontent-length: %d\r\ncontent-type: application/json\r\n%b\r\n%b"
                % (head, len(body), rest, body)
            )
        seconds = time.perf_counter() - self._start
        self._fast_path.metrics.finish(status, seconds, len(self.body), len(body))
        if not self.keep_alive:
            protocol.close()
        protocol.on_response_complete()

    def _rest(self, status: int) -> bytes:
        """Return the headers that not every answer has."""
        headers = retry_after(status)
        if not self.keep_alive:
            headers = [*headers, (b"connection", b"close")]
        return b"".join(b"%b: %b\r\n" % each for each in headers)
