"""`POST /predict` is answered as the documented route answers it, counted alike, and in order."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from uvicorn.config import Config
from uvicorn.server import ServerState

from serving.app import COUNTED_ROUTES, create_service
from serving.http.errors import add_error_handlers
from serving.http.predict_protocol import Exchange, FastPath, Protocol
from serving.http.router import create_router
from serving.metrics.http import CLIENT_CLOSED_REQUEST, HttpSlots, RouteMetrics
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
    "unknown field": GOOD[:-1] + b',"color":"blue"}',
    "missing field": b'{"ph":3}',
    "wrong type": GOOD.replace(b"3.51", b'"3.51"'),
    "out of range": GOOD.replace(b"3.51", b"15"),
    "not finite": GOOD.replace(b"3.51", b"NaN"),
    "malformed": GOOD[:-1],
    "empty": b"",
    "list": b"[" + GOOD + b"]",
    "too large": b" " * 5000 + GOOD,
}
TURNS = 50


class Wire(asyncio.Transport):
    """The other end of a connection: keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send."""
        assert not self.closing
        self.written += data

    def is_closing(self) -> bool:
        """Tell whether it is closed."""
        return self.closing

    def close(self) -> None:
        """Close."""
        self.closing = True

    def pause_reading(self) -> None:
        """Nothing is read."""

    def resume_reading(self) -> None:
        """Nothing is read."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """Nothing is known."""
        del name
        return default


class Client:
    """A connection to the application, driven by hand."""

    def __init__(self, config: Config) -> None:
        self.state = ServerState()
        self.state.default_headers = [(b"date", b"now")]
        self.wire = Wire()
        self.protocol = Protocol(config, self.state, {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.wire)

    @property
    def is_fast(self) -> bool:
        """Whether the last request was kept from the framework."""
        return isinstance(self.protocol.cycle, Exchange)

    def send(self, *parts: bytes) -> None:
        """Send bytes as so many packets."""
        for part in parts:
            self.protocol.data_received(part)

    async def answers(self, count: int) -> list[httpx.Response]:
        """Return so many answers, once they are there; nothing may follow them."""
        for _ in range(TURNS):
            if len(parse(self.wire.written)) == count:
                break
            await asyncio.sleep(0)
        found = parse(self.wire.written)
        assert len(found) == count
        return found


def parse(written: bytes) -> list[httpx.Response]:
    """Return the whole answers among what was written."""
    found = []
    while written:
        head, _, rest = written.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.split(": ") for line in lines)
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            break
        body, written = rest[:length], rest[length:]
        found.append(httpx.Response(int(status.split()[1]), headers=headers, content=body))
    return found


def request(body: bytes = GOOD, *headers: bytes, target: bytes = b"/predict") -> bytes:
    """Return a request's bytes."""
    lines = [
        b"POST %b HTTP/1.1" % target,
        b"Host: model",
        b"Content-Length: %d" % len(body),
        *headers,
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@pytest.fixture(name="app")
def _app(example_bundle: Path, tmp_path: Path) -> FastAPI:
    """Return the application, but for its middleware: that is once in a process."""
    settings = Settings(
        bundle=example_bundle,
        metrics_dir=tmp_path,
        prediction_keys=SecretStr("k" * 32),
        max_body_bytes=5000,
    )
    service = create_service(settings)
    app = FastAPI()
    add_error_handlers(app, service.metrics)
    app.include_router(create_router(service))
    http = HttpSlots(tmp_path, COUNTED_ROUTES)
    app.state.fast_path = FastPath(service, RouteMetrics(http, "/predict"))
    return app


@pytest.fixture(name="config")
def _config(app: FastAPI) -> Config:
    config = Config(app, log_config=None)
    config.load()
    return config


def statuses(directory: Path) -> Mapping[str, float]:
    """Return how many requests the fast path has counted."""
    samples = read_metrics(directory)
    return by_label(samples, "http_requests_total", "status", handler="/predict")


def ask(config: Config, *parts: bytes) -> httpx.Response:
    """Return the one answer to a request that arrives in parts."""

    async def talk() -> httpx.Response:
        client = Client(config)
        client.send(*parts)
        assert client.is_fast
        (answer,) = await client.answers(1)
        return answer

    return asyncio.run(talk())


def ask_route(app: FastAPI, body: bytes) -> httpx.Response:
    """Return the answer of the documented route."""

    async def talk() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://model") as client:
            return await client.post("/predict", content=body)

    return asyncio.run(talk())


def anonymous(answer: httpx.Response) -> tuple[int, str, dict[str, Any]]:
    """Return what two answers to one body share: an id is never the same."""
    content = answer.json()
    if "prediction_id" in content:
        content["prediction_id"] = len(content["prediction_id"])
    return answer.status_code, answer.headers["content-type"], content


@pytest.mark.parametrize("kind", BODIES)
def test_status_and_answer_are_those_of_the_route(kind: str, app: FastAPI, config: Config) -> None:
    """Whatever the body, only the prediction's id differs."""
    ours, theirs = ask(config, request(BODIES[kind])), ask_route(app, BODIES[kind])

    assert anonymous(ours) == anonymous(theirs)
    assert ours.headers["date"] == "now"


def test_requests_that_arrive_together_are_predicted_together(
    config: Config, tmp_path: Path
) -> None:
    """And counted one by one: by status, size and time."""
    bodies = [GOOD] * 5 + [b"{", b"[]"]

    async def talk() -> list[httpx.Response]:
        clients = [Client(config) for _ in bodies]
        for client, body in zip(clients, bodies, strict=True):
            client.send(request(body))
        return [(await client.answers(1))[0] for client in clients]

    answers = asyncio.run(talk())

    assert [each.status_code for each in answers] == [200] * 5 + [422] * 2
    assert statuses(tmp_path) == {"2xx": 5, "4xx": 2, "5xx": 0}
    samples = read_metrics(tmp_path)
    labels = {"handler": "/predict", "method": "POST"}
    assert total(samples, "http_request_duration_seconds_count", **labels) == 7
    assert total(samples, "http_request_size_bytes_sum", **labels) == 5 * len(GOOD) + 3
    sent = sum(len(each.content) for each in answers)
    assert total(samples, "http_response_size_bytes_sum", **labels) == sent
    assert total(samples, "http_requests_inprogress", **labels) == 0
    assert total(samples, "model_predictions_total") == 5
    assert total(samples, "model_inference_seconds_count") == 1


def test_a_body_in_parts_is_one_body(config: Config) -> None:
    """However the network cuts it."""
    whole = request()
    assert ask(config, *(whole[i : i + 1] for i in range(len(whole)))).status_code == 200


def test_a_chunked_body_is_one_body(config: Config) -> None:
    """Without a length."""
    head = b"POST /predict HTTP/1.1\r\nHost: model\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (GOOD[:9], GOOD[9:]))

    assert ask(config, head, chunks, b"0\r\n\r\n").status_code == 200


def test_what_is_sent_at_once_is_answered_in_order(config: Config, tmp_path: Path) -> None:
    """Requests that do not wait for the answer before theirs are FastAPI's, and keep their turn."""

    async def talk() -> list[httpx.Response]:
        client = Client(config)
        client.send(request() + request(b"{}") + request() + request(b"[]"))
        return await client.answers(4)

    assert [each.status_code for each in asyncio.run(talk())] == [200, 422, 200, 422]
    assert statuses(tmp_path)["2xx"] >= 1


def test_a_connection_is_used_again(config: Config, tmp_path: Path) -> None:
    """For any route, before and after a refusal."""

    async def talk() -> list[int]:
        client, found = Client(config), []
        for i, each in enumerate(
            (request(), request(b"{"), request(target=b"/nowhere"), request(b" " * 6000), request())
        ):
            client.send(each)
            found.append((await client.answers(i + 1))[i].status_code)
        assert not client.wire.closing
        assert client.state.total_requests == 5
        return found

    assert asyncio.run(talk()) == [200, 422, 404, 413, 200]
    assert statuses(tmp_path) == {"2xx": 2, "4xx": 2, "5xx": 0}


@pytest.mark.parametrize(
    "asked",
    [
        request(GOOD, b"Connection: close"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    ],
)
def test_a_connection_closes_when_the_client_wants_it(asked: bytes, config: Config) -> None:
    """After the answer, which says so."""

    async def talk() -> None:
        client = Client(config)
        client.send(asked)
        (answer,) = await client.answers(1)
        assert answer.headers["connection"] == "close"
        assert client.wire.closing

    asyncio.run(talk())


def test_a_stop_lets_the_answer_out_first(config: Config) -> None:
    """Of what has been asked, and of what comes a moment later; either way it is the last one."""

    async def talk() -> None:
        clients = busy, late, other = Client(config), Client(config), Client(config)
        busy.send(request())
        for each in clients:
            each.protocol.shutdown()
        late.send(request())
        other.send(request(target=b"/"))
        assert not any(each.wire.closing for each in clients)
        for each in clients:
            (answer,) = await each.answers(1)
            assert answer.headers["connection"] == "close"
            assert each.wire.closing

    asyncio.run(talk())


def test_a_stop_closes_a_connection_at_rest(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a moment; not before, and not while the answer to its last request is due."""
    monkeypatch.setattr("serving.http.predict_protocol._LAST_REQUEST_SECONDS", 0.01)

    async def talk() -> None:
        idle, late = Client(config), Client(config)
        idle.protocol.shutdown()
        late.protocol.shutdown()
        late.send(request()[:-1])
        assert not idle.wire.closing
        while not idle.wire.closing:  # noqa: ASYNC110 a closed wire is no event
            await asyncio.sleep(0)
        assert not late.wire.closing
        late.send(request()[-1:])
        await late.answers(1)
        assert late.wire.closing

    asyncio.run(asyncio.wait_for(talk(), 60))


@pytest.mark.parametrize(
    "asked",
    [
        request(target=b"/"),
        request(target=b"/predict/"),
        request(target=b"/predict?x=1"),
        request().replace(b"POST", b"PUT", 1),
        request(GOOD, b"Expect: 100-continue"),
        request(GOOD, b"Connection: Upgrade", b"Upgrade: h2c"),
    ],
)
def test_other_requests_are_the_frameworks(asked: bytes, config: Config) -> None:
    """Other routes, other methods, and what needs more than an answer."""

    async def talk() -> bool:
        client = Client(config)
        client.send(asked)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert client.wire.written
        return client.is_fast

    assert not asyncio.run(talk())


def test_a_client_that_leaves_in_mid_body_is_no_server_error(
    config: Config, tmp_path: Path
) -> None:
    """It counts as the client's own doing, and gets no answer."""
    assert CLIENT_CLOSED_REQUEST // 100 == 4

    async def talk() -> None:
        client = Client(config)
        client.send(request()[:-10])
        client.wire.close()
        client.protocol.connection_lost(None)
        assert client.wire.written == b""

    asyncio.run(talk())
    assert statuses(tmp_path) == {"2xx": 0, "4xx": 1, "5xx": 0}
    assert total(read_metrics(tmp_path), "http_requests_inprogress", handler="/predict") == 0


def test_a_client_that_leaves_before_its_answer_harms_nobody(
    config: Config, tmp_path: Path
) -> None:
    """Its row is predicted and counted once; those beside it have their answers."""

    async def talk() -> httpx.Response:
        gone, other = Client(config), Client(config)
        gone.send(request())
        other.send(request())
        gone.wire.close()
        gone.protocol.connection_lost(None)
        (answer,) = await other.answers(1)
        assert gone.wire.written == b""
        return answer

    assert asyncio.run(talk()).status_code == 200
    assert statuses(tmp_path) == {"2xx": 2, "4xx": 0, "5xx": 0}
    assert total(read_metrics(tmp_path), "model_predictions_total") == 2


class Broken:
    """An estimator that fails."""

    def predict(self, _: object) -> None:
        """Fail."""
        raise RuntimeError("broken")


def test_a_failure_of_the_estimator_is_a_server_error(
    app: FastAPI,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is counted, logged with its reason, and answered as the route answers it."""
    fast_path: FastPath = app.state.fast_path
    monkeypatch.setattr(fast_path.service.predictor, "_estimator", Broken())

    with caplog.at_level(logging.ERROR):
        answer = ask(config, request())

    assert anonymous(answer) == anonymous(ask_route(app, GOOD))
    assert answer.status_code == 500
    assert "broken" in caplog.text
    assert statuses(tmp_path) == {"2xx": 0, "4xx": 0, "5xx": 1}


def test_a_failure_before_the_estimator_is_a_server_error(
    app: FastAPI, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not taken for a request that cannot be parsed."""

    def fail(_: object) -> None:
        raise RuntimeError("broken")

    fast_path: FastPath = app.state.fast_path
    monkeypatch.setattr(fast_path.service.inputs, "one", fail)

    assert ask(config, request()).status_code == 500
    assert statuses(tmp_path) == {"2xx": 0, "4xx": 0, "5xx": 1}
