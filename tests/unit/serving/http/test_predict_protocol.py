"""`POST /predict` is answered as the documented route answers it, counted alike, and in order."""

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from fastapi import FastAPI
from uvicorn.config import Config

from serving.answers import CLIENT_CLOSED_REQUEST
from tests.support.bundles import read_metrics
from tests.support.model import by_label, total
from tests.support.protocol import TURNS, Client, request

if TYPE_CHECKING:
    from serving.http.predict_protocol import FastPath

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
    whole = request(GOOD)
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
        client.send(request(GOOD) + request(b"{}") + request(GOOD) + request(b"[]"))
        return await client.answers(4)

    assert [each.status_code for each in asyncio.run(talk())] == [200, 422, 200, 422]
    assert statuses(tmp_path)["2xx"] >= 1


def test_a_connection_is_used_again(config: Config, tmp_path: Path) -> None:
    """For any route, before and after a rejection."""

    async def talk() -> list[int]:
        client, found = Client(config), []
        for i, each in enumerate(
            (
                request(GOOD),
                request(b"{"),
                request(GOOD, target=b"/nowhere"),
                request(GOOD),
            )
        ):
            client.send(each)
            found.append((await client.answers(i + 1))[i].status_code)
        assert not client.wire.closing
        assert client.state.total_requests == 4
        return found

    assert asyncio.run(talk()) == [200, 422, 404, 200]
    assert statuses(tmp_path) == {"2xx": 2, "4xx": 1, "5xx": 0}


@pytest.mark.parametrize(
    "asked",
    [
        request(GOOD, b"Connection: close"),
        request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
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
        busy.send(request(GOOD))
        for each in clients:
            each.protocol.shutdown()
        late.send(request(GOOD))
        other.send(request(GOOD, target=b"/"))
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
    monkeypatch.setattr("serving.http.connection._LAST_REQUEST_SECONDS", 0.01)

    async def talk() -> None:
        idle, late = Client(config), Client(config)
        idle.protocol.shutdown()
        late.protocol.shutdown()
        late.send(request(GOOD)[:-1])
        assert not idle.wire.closing
        while not idle.wire.closing:  # noqa: ASYNC110 a closed wire is no event
            await asyncio.sleep(0)
        assert not late.wire.closing
        late.send(request(GOOD)[-1:])
        await late.answers(1)
        assert late.wire.closing

    asyncio.run(asyncio.wait_for(talk(), 60))


@pytest.mark.parametrize(
    "asked",
    [
        request(GOOD, target=b"/"),
        request(GOOD, target=b"/predict/"),
        request(GOOD, target=b"/predict?x=1"),
        request(GOOD).replace(b"POST", b"PUT", 1),
        request(GOOD, b"Expect: 100-continue"),
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
        client.send(request(GOOD)[:-10])
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
        gone.send(request(GOOD))
        other.send(request(GOOD))
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

    def predict(self, *_: object) -> None:
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
    monkeypatch.setattr(fast_path.service.predictor, "_model", Broken())

    with caplog.at_level(logging.ERROR):
        answer = ask(config, request(GOOD))

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
    monkeypatch.setattr(fast_path.service.inputs, "decode_row", fail)

    assert ask(config, request(GOOD)).status_code == 500
    assert statuses(tmp_path) == {"2xx": 0, "4xx": 0, "5xx": 1}
