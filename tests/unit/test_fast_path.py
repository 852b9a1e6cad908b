"""The fast path answers `POST /predict` as the documented route does, and counts it alike."""

import asyncio
from pathlib import Path

import httpx
import pytest
from fastapi_offline import FastAPIOffline
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Scope

from serving.app import COUNTED_ROUTES, create_service
from serving.fast_path import FastPath
from serving.http_metrics import CLIENT_CLOSED_REQUEST, HttpSlots, RouteMetrics
from serving.routes import create_router
from serving.routes.body import add_error_handlers
from serving.service import Service
from serving.settings import Settings
from tests.support.bundles import read_metrics
from tests.support.model import by_label, total

GOOD = (
    b'{"fixed_acidity":7.4,"volatile_acidity":0.7,"citric_acid":0,"residual_sugar":1.9,'
    b'"chlorides":0.076,"free_sulfur_dioxide":11,"total_sulfur_dioxide":34,"density":0.9978,'
    b'"ph":3.51,"sulphates":0.56,"alcohol_pct_vol":9.4}'
)
BODIES = {
    "good": GOOD,
    "unknown field": GOOD[:-1] + b',"color":"red"}',
    "missing field": b'{"ph":3}',
    "wrong type": GOOD.replace(b"3.51", b'"3.51"'),
    "out of range": GOOD.replace(b"3.51", b"15"),
    "not finite": GOOD.replace(b"3.51", b"NaN"),
    "malformed": GOOD[:-1],
    "empty": b"",
    "list": b"[" + GOOD + b"]",
    "too large": b" " * 5000 + GOOD,
}


@pytest.fixture(name="service")
def _service(wine_bundle: Path, tmp_path: Path) -> Service:
    settings = Settings(
        bundle=wine_bundle,
        metrics_dir=tmp_path,
        prediction_keys=SecretStr("k" * 32),
        max_body_bytes=5000,
    )
    return create_service(settings)


@pytest.fixture(name="route")
def _route(service: Service) -> ASGIApp:
    """Return the framework's application, without the fast path."""
    app = FastAPIOffline()
    add_error_handlers(app, service.metrics)
    app.include_router(create_router(service))
    return app


@pytest.fixture(name="fast")
def _fast(service: Service, route: ASGIApp, tmp_path: Path) -> FastPath:
    http = HttpSlots(tmp_path, COUNTED_ROUTES)
    return FastPath(route, service, RouteMetrics(http, "/predict"))


def _post(app: ASGIApp, *bodies: bytes) -> list[httpx.Response]:
    """Return the answers to bodies that are posted to /predict all at once."""

    async def post() -> list[httpx.Response]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            posts = [client.post("/predict", content=body) for body in bodies]
            return await asyncio.gather(*posts)

    return asyncio.run(post())


@pytest.mark.parametrize("kind", BODIES)
def test_status_and_answer_are_those_of_the_route(
    kind: str, fast: FastPath, route: ASGIApp
) -> None:
    """Whatever the body, only the prediction's id, which is never the same, differs."""
    (ours,), (theirs,) = _post(fast, BODIES[kind]), _post(route, BODIES[kind])

    assert (theirs.status_code, theirs.headers["content-type"]) == (
        ours.status_code,
        ours.headers["content-type"],
    )
    assert theirs.json() | {"prediction_id": ""} == ours.json() | {"prediction_id": ""}


def test_every_request_is_counted_by_status_size_and_time(fast: FastPath, tmp_path: Path) -> None:
    """Requests of one loop turn are predicted together and counted one by one."""
    answers = _post(fast, *[GOOD] * 5, b"{", b"[]")

    samples = read_metrics(tmp_path)
    labels = {"handler": "/predict", "method": "POST"}
    statuses = by_label(samples, "http_requests_total", "status", **labels)
    assert statuses == {"2xx": 5, "4xx": 2, "5xx": 0}
    assert total(samples, "http_request_duration_seconds_count", **labels) == 7
    assert total(samples, "http_request_size_bytes_sum", **labels) == 5 * len(GOOD) + 3
    sent = sum(len(answer.content) for answer in answers)
    assert total(samples, "http_response_size_bytes_sum", **labels) == sent
    assert total(samples, "http_requests_inprogress", **labels) == 0
    assert total(samples, "model_predictions_total") == 5
    assert total(samples, "model_inference_seconds_count") == 1


def test_other_requests_are_the_frameworks(fast: FastPath) -> None:
    """Other routes, other methods, and what is not HTTP pass through."""

    async def get(path: str) -> int:
        transport = httpx.ASGITransport(fast)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return (await client.get(path)).status_code

    assert [asyncio.run(get(path)) for path in ("/", "/predict", "/nowhere")] == [200, 405, 404]


def _drive(app: ASGIApp, *received: Message) -> list[Message]:
    """Return what is sent to a client from which these messages come."""
    messages, sent = list(received), []
    scope: Scope = {"type": "http", "path": "/predict", "method": "POST", "headers": []}

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return sent


def test_a_body_in_parts_is_one_body(fast: FastPath) -> None:
    """However the network cuts it."""
    parts = [GOOD[:7], b"", GOOD[7:100], GOOD[100:]]
    received: list[Message] = [
        {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
    ]

    assert _drive(fast, *received)[0]["status"] == 200


def test_a_client_that_leaves_gets_no_answer_and_is_no_server_error(
    fast: FastPath, tmp_path: Path
) -> None:
    """A connection closed in mid-body counts as the client's own doing."""
    assert CLIENT_CLOSED_REQUEST // 100 == 4
    first: Message = {"type": "http.request", "body": GOOD[:50], "more_body": True}

    assert _drive(fast, first, {"type": "http.disconnect"}) == []

    statuses = by_label(read_metrics(tmp_path), "http_requests_total", "status", handler="/predict")
    assert statuses == {"2xx": 0, "4xx": 1, "5xx": 0}


def test_a_failure_of_the_estimator_is_a_server_error(
    fast: FastPath, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted, and raised for the server to log and to answer."""

    class Broken:
        def predict(self, _: object) -> None:
            raise RuntimeError("broken")

    monkeypatch.setattr(service.predictor, "_estimator", Broken())
    body: Message = {"type": "http.request", "body": GOOD, "more_body": False}

    with pytest.raises(RuntimeError, match="broken"):
        _drive(fast, body)

    statuses = by_label(read_metrics(tmp_path), "http_requests_total", "status", handler="/predict")
    assert statuses == {"2xx": 0, "4xx": 0, "5xx": 1}
