"""The http_* families of the fast path."""

import asyncio
import errno
import os
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from serving.metrics.http import LATENCY_BOUNDS, CountRequests, HttpSlots, RouteMetrics
from tests.support.bundles import read_metrics
from tests.support.model import by_label, total

ROUTE = {"handler": "/predict", "method": "POST"}


@pytest.mark.parametrize("seconds", [[0.001], [0.005, 0.0049, 0.0], [0.004, 0.02, 0.3, 2.5, 9.0]])
def test_requests_that_are_written_together_are_counted_separately(
    tmp_path: Path, seconds: list[float]
) -> None:
    """Each request is counted, whether or not they share a bucket of the duration."""

    async def requests() -> None:
        route = RouteMetrics(HttpSlots(tmp_path, ["/predict"]), "/predict")
        for each in seconds:
            route.start()
            route.answer(200)
            route.finish(200, each, received=10, sent=3)
        route.write()

    asyncio.run(requests())
    samples = read_metrics(tmp_path)
    buckets = by_label(samples, "http_request_duration_seconds_bucket", "le", **ROUTE, status="2xx")

    for bound in LATENCY_BOUNDS:
        assert buckets[str(bound)] == sum(each <= bound for each in seconds)
    for name, expected in {
        "http_request_duration_seconds_sum": sum(seconds),
        "http_requests_total": len(seconds),
        "http_request_size_bytes_sum": 10 * len(seconds),
        "http_response_size_bytes_sum": 3 * len(seconds),
    }.items():
        assert total(samples, name, **ROUTE, status="2xx") == pytest.approx(expected)
    assert total(samples, "http_requests_inprogress", **ROUTE) == 0


def test_a_request_is_counted_before_its_answer_is_sent(tmp_path: Path) -> None:
    """A worker that is killed afterwards has counted it; only its duration is missing."""

    async def requests() -> None:
        route = RouteMetrics(HttpSlots(tmp_path, ["/predict"]), "/predict")
        route.start()
        route.answer(200)
        assert total(read_metrics(tmp_path), "http_requests_total", **ROUTE, status="2xx") == 1

    asyncio.run(requests())


def application(http: HttpSlots) -> CountRequests:
    """Return routes that answer with the numbers of requests that are counted."""

    async def answer(_: Request) -> Response:
        return Response(b"12345")

    async def fail(_: Request) -> Response:
        raise ZeroDivisionError

    routes = [
        Route("/", answer),
        Route("/items/{name}", answer, methods=["GET", "PUT"]),
        Route("/fail", fail),
        Mount("/static", answer_static),
    ]
    return CountRequests(Starlette(routes=routes), http, routes)


async def answer_static(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any path."""
    await Response(b"file")(scope, receive, send)


@pytest.mark.parametrize(
    ("method", "path", "labels"),
    [
        ("GET", "/", ("/", "GET", "2xx")),
        ("HEAD", "/", ("/", "HEAD", "2xx")),
        ("POST", "/", ("/", "other", "4xx")),
        ("BREW", "/", ("/", "other", "4xx")),
        ("PUT", "/items/a", ("/items/{name}", "PUT", "2xx")),
        ("GET", "/items/b", ("/items/{name}", "GET", "2xx")),
        ("GET", "/items/a/b", ("none", "GET", "4xx")),
        ("GET", "/none", ("none", "GET", "4xx")),
        ("GET", "none", ("none", "GET", "4xx")),
        ("GET", "/{name}", ("none", "GET", "4xx")),
        ("GET", "/items/{name}", ("/items/{name}", "GET", "2xx")),
        ("BREW", "/nowhere", ("none", "other", "4xx")),
        ("GET", "/static/a/b.js", ("/static", "GET", "2xx")),
        ("GET", "/fail", ("/fail", "GET", "5xx")),
    ],
)
def test_a_request_is_counted_by_route_and_known_method(
    tmp_path: Path, method: str, path: str, labels: tuple[str, str, str]
) -> None:
    """Clients cannot make up series; each request is in every family once."""
    app = application(HttpSlots(tmp_path, ["/predict"]))
    sent: list[Message] = []
    scope: Scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(b"content-length", b"7")],
        "query_string": b"",
    }

    async def request() -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        with suppress(ZeroDivisionError):
            await app(scope, receive, send)

    asyncio.run(request())
    samples = read_metrics(tmp_path)
    found = dict(zip(("handler", "method", "status"), labels, strict=True))
    assert sent
    for family in (
        "http_requests_total",
        "http_request_duration_seconds_count",
        "http_response_size_bytes_count",
    ):
        assert total(samples, family) == total(samples, family, **found) == 1
    assert total(samples, "http_request_size_bytes_sum", **found) == 7
    assert total(samples, "http_requests_inprogress") == 0


def test_a_route_that_has_no_room_is_counted_as_uncounted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is answered, and a counter of the master's says that a request is missing."""
    lost: list[int] = []
    http = HttpSlots(tmp_path, ["/predict"], lost.append)

    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    for number in range(100):
        if (series := http.of(f"/{number}", "GET", "2xx")) is None:
            break
        http.count(series, [0.1], 1, 1)
    http.progress("/last", "GET", 1)

    assert http.of(f"/{number}", "GET", "2xx") is None
    assert read_metrics(tmp_path)
