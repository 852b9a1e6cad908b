"""The http_* families, which are named like those of prometheus-fastapi-instrumentator.

Why it exists: that library creates series in files with holes, which end a worker with SIGBUS once
the file system is full; it counts a request after its answer, which a killed worker has then sent
but not counted; and it makes a series for every method that a client invents. To remove it, use
the library's Instrumentator in app.py; tests/unit/serving/metrics/test_instrumentator.py compares
the two.

A request is counted just before its answer is sent. The fast path writes its duration and its sizes
in the next iteration of the event loop, together with those of others.
"""

import asyncio
import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from starlette.routing import BaseRoute, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.metrics.slots import Layout, Slots

if TYPE_CHECKING:
    import re

log = logging.getLogger(__name__)

# 0.3 s is the threshold of the latency objective.
LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5)
STATUSES = ("2xx", "4xx", "5xx")
# The handler of a path without a route, and the method that a route does not have.
NO_ROUTE = "none"
OTHER_METHOD = "other"

_HELP = {
    "http_requests": "HTTP requests.",
    "http_request_duration_seconds": "Duration of HTTP requests, in seconds.",
    "http_request_size_bytes": "Content bytes of requests.",
    "http_response_size_bytes": "Content bytes of responses.",
    "http_requests_inprogress": "Number of HTTP requests in progress.",
}


class _Series(NamedTuple):
    """The places of one route, method and status; of the buckets and the sum, of count and sum."""

    requests: int
    duration: Sequence[int]
    received: Sequence[int]
    sent: Sequence[int]


class HttpSlots:
    """Slots of the http_* families; those of some routes (POST) are there, at 0, from the start.

    Prometheus sees no increase in a series that starts with its first failure. `count_lost` gets
    the number of requests that could not be counted because the directory is full.
    """

    def __init__(
        self,
        directory: Path,
        handlers: Iterable[str],
        count_lost: Callable[[int], None] = lambda _: None,
    ) -> None:
        layouts = _Layouts()
        keys = [(handler, "POST", status) for handler in handlers for status in STATUSES]
        slots = [layouts.declare(*key) for key in keys]
        gauges = {key[:2]: layouts.declare_gauge(*key[:2]) for key in keys}
        dropped = layouts.counters.counter(
            "service_log_lines_dropped",
            "Log lines that were not written: nobody read them, or too many were equal.",
            {},
        )
        self.counters = layouts.counters.create(directory, "http")
        self.histograms = layouts.histograms.create(directory, "http")
        self.summaries = layouts.summaries.create(directory, "http")
        self.gauges = layouts.gauges.create(directory, "http")
        self.inprogress = {each: self.gauges.places[slot] for each, slot in gauges.items()}
        self.series: dict[tuple[str, str, str], _Series | None] = {
            key: _Series(
                self.counters.places[requests],
                self.histograms.places[duration],
                self.summaries.places[received],
                self.summaries.places[sent],
            )
            for key, (requests, duration, received, sent) in zip(keys, slots, strict=True)
        }
        self._dropped = self.counters.places[dropped]
        self._count_lost = count_lost

    def of(self, handler: str, method: str, status: str) -> _Series | None:
        """Return the places of a request; None if the directory has no room for its series."""
        key = handler, method, status
        if key not in self.series:
            self.series[key] = self._add(*key)
        return self.series[key]

    def progress(self, handler: str, method: str, change: int) -> None:
        """Add to the number of requests in progress."""
        key = handler, method
        if key not in self.inprogress:
            layouts = _Layouts()
            layouts.declare_gauge(*key)
            try:
                (self.inprogress[key],) = self.gauges.append(layouts.gauges.keys)
            except OSError as error:
                self._report(error)
                return
        self.gauges.cells[self.inprogress[key]] += change

    def count(self, series: _Series, seconds: Sequence[float], received: int, sent: int) -> None:
        """Write durations and total sizes of requests, at least one, which have been counted."""
        _observe(self.histograms.cells, series.duration, seconds)
        cells, requests = self.summaries.cells, len(seconds)
        for (count, total), size in ((series.received, received), (series.sent, sent)):
            cells[count] += requests
            cells[total] += size

    def count_lost(self, requests: int) -> None:
        """Count requests whose counts, or some of them, are kept nowhere."""
        self._count_lost(requests)

    def count_dropped_lines(self, lines: int) -> None:
        """Count log lines that were not written."""
        self.counters.cells[self._dropped] += lines

    def _add(self, handler: str, method: str, status: str) -> _Series | None:
        layouts = _Layouts()
        layouts.declare(handler, method, status)
        try:
            (requests,) = self.counters.append(layouts.counters.keys)
            duration = self.histograms.append(layouts.histograms.keys)
            sizes = self.summaries.append(layouts.summaries.keys)
        except OSError as error:
            self._report(error)
            return None
        return _Series(requests, duration, sizes[:2], sizes[2:])

    def _report(self, error: OSError) -> None:
        log.error("requests of a route are not counted: %s", error)


class RouteMetrics:
    """The families of one route (POST), written by the route itself. Not thread-safe."""

    def __init__(self, http: HttpSlots, handler: str) -> None:
        self._http = http
        series = {int(status[0]): http.series[handler, "POST", status] for status in STATUSES}
        self._series = {status: each for status, each in series.items() if each}
        self._requests = {status: each.requests for status, each in self._series.items()}
        self._inprogress = http.inprogress[handler, "POST"]
        self._counters, self._gauges = http.counters, http.gauges
        self._finished = {status: _Finished() for status in self._series}
        self._is_due = False

    def start(self) -> None:
        """Count a request as in progress."""
        self._gauges.cells[self._inprogress] += 1

    def answer(self, status: int) -> None:
        """Count a request. Called before its answer is sent: a killed worker has counted it."""
        self._counters.cells[self._requests[status // 100]] += 1

    def finish(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Write soon the duration and the sizes (bytes) of a request, and the end of its progress.

        Requests that end together are written together.
        """
        finished = self._finished[status // 100]
        finished.seconds.append(seconds)
        finished.received += received
        finished.sent += sent
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Write the requests that have finished since the last call."""
        self._is_due = False
        for status, each in self._finished.items():
            if each.seconds:
                requests = len(each.seconds)
                self._gauges.cells[self._inprogress] -= requests
                self._http.count(self._series[status], each.seconds, each.received, each.sent)
                if Slots.is_any_lost:
                    self._http.count_lost(requests)
                each.seconds.clear()
                each.received = each.sent = 0


class _Finished:
    """The durations of requests and their total sizes, in bytes."""

    __slots__ = ("received", "seconds", "sent")

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.received = self.sent = 0


class CountRequests:
    """Middleware that counts every request by route template, method and class of status."""

    def __init__(self, app: ASGIApp, http: HttpSlots, routes: Sequence[BaseRoute]) -> None:
        self._app = app
        self._http = http
        self._routes = _Routes(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and count it before the last part of its answer is sent."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = _Request(self._http, *self._routes.find(scope["path"], scope["method"]))

        async def send_counted(message: Message) -> None:
            request.sends(message)
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            request.end(_length(scope["headers"]))


class _Request:
    """A request on its way through the application."""

    def __init__(self, http: HttpSlots, handler: str, method: str) -> None:
        self._http = http
        self._route = handler, method
        self._start = time.perf_counter()
        # Of a request whose handler fails before it answers.
        self._status, self._sent = 500, 0
        self._series: _Series | None = None
        self._is_counted = False
        http.progress(handler, method, 1)

    def sends(self, message: Message) -> None:
        """Take note of a part of the answer."""
        if message["type"] == "http.response.start":
            self._status, self._sent = message["status"], _length(message["headers"])
        elif not message.get("more_body", False):
            self._count()

    def end(self, received: int) -> None:
        """Write what is known when the answer, if any, was sent; `received` is in bytes."""
        self._count()
        http = self._http
        http.progress(*self._route, -1)
        if self._series is not None:
            seconds = time.perf_counter() - self._start
            http.count(self._series, [seconds], received, self._sent)
        if self._series is None or Slots.is_any_lost:
            http.count_lost(1)

    def _count(self) -> None:
        if not self._is_counted:
            self._is_counted = True
            self._series = self._http.of(*self._route, f"{self._status // 100}xx")
            if self._series is not None:
                self._http.counters.cells[self._series.requests] += 1


class _Routes:
    """Finds the template of a path."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        self._methods: dict[str, set[str]] = {NO_ROUTE: {"GET", "HEAD", "POST"}}
        self._patterns: dict[str, re.Pattern[str]] = {}
        for each in _flat(routes):
            methods = {"GET", "HEAD"} if isinstance(each, Mount) else set(each.methods or ())
            self._methods.setdefault(each.path, set()).update(methods)
            if "{" in each.path or isinstance(each, Mount):
                self._patterns[each.path] = each.path_regex

    def find(self, path: str, method: str) -> tuple[str, str]:
        """Return the labels `handler` and `method`, of which there is a bounded number."""
        handler = path
        if path not in self._methods or path in self._patterns or path == NO_ROUTE:
            matching = (each for each, pattern in self._patterns.items() if pattern.match(path))
            handler = next(matching, NO_ROUTE)
        return handler, method if method in self._methods[handler] else OTHER_METHOD


def _flat(routes: Iterable[BaseRoute]) -> Iterator[Any]:
    """Yield routes and mounts; those of an included router are in an object of FastAPI's."""
    for each in routes:
        contexts = getattr(each, "effective_route_contexts", None)
        if contexts is None:
            yield each
        else:
            for context in contexts():
                yield context.starlette_route or context


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the content length that headers state, else 0."""
    for name, value in headers:
        if name == b"content-length":
            return int(value)
    return 0


def _observe(cells: "memoryview[float]", places: Sequence[int], values: Sequence[float]) -> None:
    """Add values, at least one, to a histogram of LATENCY_BOUNDS."""
    # Requests that end together have taken about as long.
    bucket = bisect_left(LATENCY_BOUNDS, min(values))
    if bucket == bisect_left(LATENCY_BOUNDS, max(values)):
        cells[places[bucket]] += len(values)
    else:
        for value in values:
            cells[places[bisect_left(LATENCY_BOUNDS, value)]] += 1
    cells[places[-1]] += sum(values)


class _Layouts:
    """The layouts of the four types."""

    def __init__(self) -> None:
        self.counters, self.histograms = Layout("counter"), Layout("histogram")
        self.summaries, self.gauges = Layout("summary"), Layout("gauge_livesum")

    def declare(self, handler: str, method: str, status: str) -> tuple[int, slice, slice, slice]:
        """Declare what is counted of a request; return the slots in the order of _Series."""
        labels = {"handler": handler, "method": method, "status": status}
        return (
            self.counters.counter(*_named("http_requests"), labels),
            self.histograms.histogram(
                *_named("http_request_duration_seconds"), labels, LATENCY_BOUNDS
            ),
            self.summaries.summary(*_named("http_request_size_bytes"), labels),
            self.summaries.summary(*_named("http_response_size_bytes"), labels),
        )

    def declare_gauge(self, handler: str, method: str) -> int:
        """Declare the number of requests in progress."""
        labels = {"handler": handler, "method": method}
        return self.gauges.gauge(*_named("http_requests_inprogress"), labels)


def _named(family: str) -> tuple[str, str]:
    return family, _HELP[family]
