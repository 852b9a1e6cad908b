"""The http_* families against prometheus-fastapi-instrumentator, whose names they have."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI, HTTPException
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_fastapi_instrumentator import Instrumentator, metrics
from starlette.types import ASGIApp

from serving.metrics.http import LATENCY_BOUNDS, CountRequests, HttpSlots
from tests.support.bundles import read_metrics
from tests.support.model import Samples, parse

REQUESTS = [
    ("GET", "/", b""),
    ("HEAD", "/", b""),
    ("GET", "/items/a", b""),
    ("GET", "/items/b", b""),
    ("GET", "/items/missing", b""),
    ("PUT", "/items/a", b"twelve bytes"),
    ("GET", "/nowhere", b""),
    ("GET", "/fails", b""),
]
# Durations differ each time, and the library keeps requests in progress in its own registry.
NOT_COMPARED = ("_created", "_seconds_bucket", "_seconds_sum", "_inprogress")


def application() -> FastAPI:
    """Return routes of each kind."""
    app = FastAPI()

    @app.api_route("/", methods=["GET", "HEAD"])
    def root() -> str:
        return "here"

    @app.api_route("/items/{name}", methods=["GET", "PUT"])
    def item(name: str) -> str:
        if name == "missing":
            raise HTTPException(404)
        return name

    @app.get("/fails")
    def fails() -> None:
        raise ZeroDivisionError

    return app


def send_all(app: ASGIApp) -> None:
    """Send the requests, one after another."""

    async def send() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            for method, path, body in REQUESTS:
                await client.request(method, path, content=body)

    asyncio.run(send())


@pytest.fixture(name="ours")
def _ours(tmp_path: Path) -> Samples:
    app = application()
    app.add_middleware(CountRequests, http=HttpSlots(tmp_path, []), routes=app.routes)
    send_all(app)
    return read_metrics(tmp_path)


# Once: a second time, the library finds its families registered and measures nothing.
@pytest.fixture(name="theirs", scope="module")
def _theirs() -> Samples:
    app, registry = application(), CollectorRegistry()
    Instrumentator(registry=registry).add(
        metrics.requests(registry=registry),
        metrics.latency(buckets=LATENCY_BOUNDS, registry=registry),
        metrics.request_size(registry=registry),
        metrics.response_size(registry=registry),
    ).instrument(app)
    send_all(app)
    return parse(generate_latest(registry).decode())


def compared(samples: Samples) -> Samples:
    """Return the samples of http_* families that do not depend on the clock."""
    return {
        key: value
        for key, value in samples.items()
        if key[0].startswith("http_") and not key[0].endswith(NOT_COMPARED)
    }


def test_requests_are_counted_as_the_library_counts_them(ours: Samples, theirs: Samples) -> None:
    """Names, labels and values of every family; only durations are not the same twice."""
    assert compared(ours) == compared(theirs)


def test_durations_have_the_librarys_series(ours: Samples, theirs: Samples) -> None:
    """Their names, labels and buckets."""
    durations = {key for key in theirs if key[0].startswith("http_request_duration_seconds")}

    assert {key for key in durations if not key[0].endswith("_created")} == {
        key for key in ours if key[0].startswith("http_request_duration_seconds")
    }
