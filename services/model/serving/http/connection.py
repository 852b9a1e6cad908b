"""One connection: uvicorn's protocol class, with limits, and without what it gets wrong.

uvicorn 0.54 has no limit before a handler: heads of any size, no deadlines, any number of
connections. It loses the body of a request that asks for an upgrade (uvicorn#2722; curl --http2 and
the JDK's client ask for h2c in their first request), the answer to a client that closed its own
direction, and, on a fault, the answers to earlier requests. It arms a timer after each answer. To
remove this file, let `Protocol` in predict_protocol.py inherit from HttpToolsProtocol.

It relies on these attributes of HttpToolsProtocol, which tests/unit/serving/test_dependencies.py
guards: the parser's callbacks and `data_received`, `eof_received`, `shutdown`; url, headers, scope,
parser, cycle, pipeline, flow, transport, loop, server_state, on_response_complete and
_start_asgi_task; and, of a cycle, those of Exchange (predict_protocol.py) and `transport`.
"""

import asyncio
from enum import IntEnum
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from serving.http import rejection
from serving.http.gatekeeper import Gatekeeper, Wait
from serving.http.lingering import close_gently
from serving.http.rejection import RejectedError, Rejection

# How long a stopping worker keeps an idle connection open: a request may be on its way.
_LAST_REQUEST_SECONDS = 0.5
# A request that has it in its scope's state came over a connection beyond the maximum.
OVER_LIMIT = "over_limit"
# Headers that ask for another protocol; `Connection` names them.
_UPGRADE = (b"upgrade", b"http2-settings")


class Stage(IntEnum):
    """What the parser is in."""

    BETWEEN = 0
    HEAD = 1
    BODY = 2


_BETWEEN, _HEAD, _BODY = Stage


class Connection(HttpToolsProtocol):
    """One connection. A request that is not rejected becomes a cycle, uvicorn's or another."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        app: Any = config.app
        self._gatekeeper: Gatekeeper = app.state.gatekeeper
        self._load = self._gatekeeper.load
        self._slice = self._gatekeeper.max_head_bytes
        self._stage: Stage = _BETWEEN
        # Bytes since the last complete head or piece of a body, and those of an unfinished body.
        self._fruitless = 0
        self._unfinished = 0
        self.is_over_limit = False
        # The next request is the last one; no other is read; nothing more happens.
        self._is_last = self._is_over = self._is_closed = False
        self._rejection: Rejection | None = None
        self.waiting_since = self.loop.time()
        self._waited = Wait.HEAD
        self._seen: object = None

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start; the gatekeeper may close it."""
        super().connection_made(transport)
        self._gatekeeper.admit(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._gatekeeper.leave(self)
        self._release()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, in slices that bound how far a head can exceed its limit unnoticed."""
        if len(data) <= self._slice:
            self._parse(data)
        else:
            for start in range(0, len(data), self._slice):
                self._parse(data[start : start + self._slice])

    def eof_received(self) -> bool:  # type: ignore[override]
        """Stay open as long as an answer is due: the client has only closed its own direction."""
        if not self._is_over and self._is_answer_due():
            self._end(None)
        return self._is_over and not self._is_closed

    def shutdown(self) -> None:
        """Close after the pending answer or, if idle, after one more request or a short wait.

        uvicorn closes an idle connection at once and loses a request that was just sent.
        """
        if self._is_idle():
            self._is_last = True
            self.loop.call_later(_LAST_REQUEST_SECONDS, self._close_if_idle)
        else:
            super().shutdown()

    def _close_if_idle(self) -> None:
        # A request that has begun is waited for until its deadline.
        if self._is_idle() and self._stage is not _HEAD:
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    # Parsing.

    def _parse(self, data: bytes) -> None:
        size = len(data)
        while data and not self._is_over:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                data = self._without_upgrade() + data[upgrade.args[0] :]
            except httptools.HttpParserError as error:
                cause = error.__context__
                known = isinstance(cause, RejectedError)
                self._end(cause.rejection if known else rejection.MALFORMED)  # type: ignore[union-attr]
        if self._stage is not _BETWEEN:
            self._account(size)

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self._stage = _HEAD

    def on_headers_complete(self) -> None:
        """Start a cycle, unless the request is rejected or comes again without its upgrade."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise RejectedError(rejection.MALFORMED)
            return
        if self._is_over:
            # It came together with one after which the connection closes.
            raise RejectedError(rejection.MALFORMED)
        if self._fruitless:
            self._check_head()
        self.start_cycle()
        self._stage = _BODY
        if self._is_last or self.is_over_limit:
            self.cycle.keep_alive = False

    def start_cycle(self) -> None:
        """Hand the request to the application."""
        super().on_headers_complete()
        self.cycle.transport = _Answering(self)  # type: ignore[assignment]
        if self.is_over_limit:
            self.scope["state"][OVER_LIMIT] = True

    def on_body(self, body: bytes) -> None:
        """Add to the body; as uvicorn, which also asks about upgrades."""
        self._fruitless = 0
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.body += body
            if len(cycle.body) > self._slice:
                self.flow.pause_reading()
            cycle.message_event.set()

    def on_message_complete(self) -> None:
        """Complete the request; as uvicorn, which also asks about upgrades."""
        if self._stage is not _BODY:
            return
        self._stage = _BETWEEN
        self._fruitless = 0
        if self._unfinished:
            self._release()
        if not self._load.is_in_turn:
            self._load.begin_turn()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _without_upgrade(self) -> bytes:
        """Reset the parser; return the last head without its request for another protocol."""
        version = self.parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, version)]
        for name, value in self.headers:
            if name == b"connection":
                options = [each.strip() for each in value.split(b",")]
                others = b", ".join(each for each in options if each.lower() not in _UPGRADE)
                lines.append(b"connection: " + others)
            elif name not in _UPGRADE:
                lines.append(b"%b: %b" % (name, value))
        # This one may consider itself at the end, for `Connection: close`.
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        return b"\r\n".join([*lines, b"", b""])

    # Limits.

    def _account(self, size: int) -> None:
        """Count bytes after which a request is still incomplete."""
        if self._is_over:
            return
        self._fruitless += size
        if self._fruitless > 2 * self._gatekeeper.max_head_bytes:
            # A head, or what may stand around a chunked body.
            self._end(rejection.HEAD_TOO_LARGE)
        elif self._stage is _BODY:
            self._unfinished += size
            if self.cycle.response_complete and self._unfinished > self._gatekeeper.max_body_bytes:
                self._end(None)
            elif not self._gatekeeper.keep(size):
                self._end(rejection.MEMORY)

    def _check_head(self) -> None:
        """Raise RejectedError for a head that came in several slices and exceeds the limit."""
        self._fruitless = 0
        lines = [self.url, *(name + value for name, value in self.headers)]
        # Each header has a colon, a space and a line's end.
        if sum(map(len, lines)) + 4 * len(lines) > self._gatekeeper.max_head_bytes:
            raise RejectedError(rejection.HEAD_TOO_LARGE)

    def _release(self) -> None:
        self._gatekeeper.keep(-self._unfinished)
        self._unfinished = 0

    # What the gatekeeper does with a connection; see there.

    @property
    def has_served(self) -> bool:
        """Whether it has brought a request."""
        return self.cycle is not None

    @property
    def is_evictable(self) -> bool:
        """Whether closing it loses no request that has completely arrived, and no answer."""
        return self._stage is not _BODY and self._is_idle()

    def check(self, now: float) -> None:
        """Close it if what it waits for has taken too long."""
        wait = self._wait()
        # Each request has a list of headers of its own.
        if wait is not self._waited or self.headers is not self._seen:
            self._waited, self._seen, self.waiting_since = wait, self.headers, now
        elif now - self.waiting_since >= self._gatekeeper.deadlines.get(wait, float("inf")):
            self._expire(wait)

    def evict(self) -> None:
        """Close it to make room."""
        self._gatekeeper.count(rejection.CONNECTIONS.reason)
        self.transport.close()

    def turn_away(self) -> None:
        """Close it at once."""
        self._gatekeeper.count(rejection.CONNECTIONS.reason)
        self._write(rejection.CONNECTIONS)
        self._is_over = self._is_closed = True
        self.transport.close()

    def _wait(self) -> Wait:
        if self.transport.get_write_buffer_size():
            return Wait.READER
        if self.flow.read_paused or (self._stage is not _BODY and not self._is_idle()):
            return Wait.SERVER
        if self._stage is _BETWEEN:
            return Wait.HEAD if self.cycle is None else Wait.NEXT
        return Wait.HEAD if self._stage is _HEAD else Wait.BODY

    def _expire(self, wait: Wait) -> None:
        if wait is Wait.READER:
            self._gatekeeper.count("answer_timeout")
            self.transport.abort()
        elif wait is Wait.NEXT:
            self.transport.close()
        elif self._stage is _BETWEEN:
            # It never sent a byte: an answer would be one to nothing.
            self._gatekeeper.count(rejection.HEAD_TIMEOUT.reason)
            self.transport.close()
        else:
            self._end(rejection.HEAD_TIMEOUT if wait is Wait.HEAD else rejection.BODY_TIMEOUT)

    # Ending.

    def on_response_complete(self) -> None:
        """Start the next pipelined request, or end; as uvicorn, but without a timer."""
        self.server_state.total_requests += 1
        if self._is_closed or self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._is_over:
            self._conclude()

    def close(self) -> None:
        """Close after what was written; gently if the client may still be sending."""
        self._is_over = True
        if self._is_closed:
            return
        self._is_closed = True
        if self._stage is _BETWEEN:
            self.transport.close()
        else:
            self._gatekeeper.leave(self)
            close_gently(self, self.transport, self._gatekeeper.max_body_bytes)

    def _end(self, last: Rejection | None) -> None:
        """Read no more requests; when no answer is due any more, send the rejection and close."""
        if self._is_over:
            return
        self._is_over, self._rejection = True, last
        if last is not None:
            self._gatekeeper.count(last.reason)
        if self._stage is _BODY and self.pipeline:
            # It is incomplete, and has not been started.
            self.pipeline.popleft()
        elif self._stage is _BODY:
            self._conclude()
            self._disconnect()
        elif self._is_idle():
            self._conclude()
        elif last is None:
            self.cycle.keep_alive = False

    def _conclude(self) -> None:
        if self._rejection is not None and not self._has_begun_to_answer():
            self._write(self._rejection)
        self.close()

    def _has_begun_to_answer(self) -> bool:
        return self._stage is _BODY and self.cycle.response_started

    def _disconnect(self) -> None:
        """Tell whoever waits for the rest of a body that there is none."""
        if not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def _is_answer_due(self) -> bool:
        return bool(self.pipeline) or (self._stage is not _BODY and not self._is_idle())

    def _write(self, last: Rejection) -> None:
        self.transport.write(last.encode(self.server_state.default_headers))


class _Answering:
    """A connection's transport, as uvicorn's cycle uses it: it closes the connection gently."""

    def __init__(self, connection: Connection) -> None:
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing
        self.close = connection.close
