"""What one client takes is bounded, and takes nothing from the others."""

import json
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http import HTTPStatus

import httpx
import pytest

from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.model import Model, by_label, total
from tests.support.processes import alive

WORKERS = 2
MAX_CONNECTIONS = 20
IDLE = 300
SLOW = 200
CHUNK = b"a" * 65_536
HUNDRED_MEGABYTES = 100_000_000
# What the buffers of two sockets may hold, generously.
BUFFERED = 30_000_000
FLOODING = 24
ASKED_BY_EACH = 8


@pytest.fixture(name="strict", scope="module")
def _strict(start_model: StartModel) -> Iterator[Model]:
    """Run a service with small limits."""
    limits = {
        "MODEL_WORKERS": str(WORKERS),
        "MODEL_HEAD_TIMEOUT": "1",
        "MODEL_BODY_TIMEOUT": "1",
        "MODEL_IDLE_TIMEOUT": "1",
        "MODEL_MAX_CONNECTIONS": str(MAX_CONNECTIONS),
    }
    with start_model(**limits) as model:
        yield model


def rejected(model: Model, reason: str) -> float:
    """Return how often a reason was counted."""
    return total(model.scrape(), "http_rejections_total", reason=reason)


def read_all(connection: socket.socket) -> bytes:
    """Return everything that the server sends until it closes, in whatever way."""
    answer = b""
    try:
        while data := connection.recv(65_536):
            answer += data
    except ConnectionResetError:
        pass
    return answer


def send_endlessly(connection: socket.socket) -> int:
    """Send until the server closes the connection; return the number of bytes."""
    sent = 0
    try:
        while sent < HUNDRED_MEGABYTES:
            sent += connection.send(CHUNK)
    except (BrokenPipeError, ConnectionResetError):
        pass
    return sent


@pytest.mark.parametrize(
    ("start", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ", 431),
        (b"GET /", 431),
        (b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 413),
        (b"POST /predict/batch HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 413),
        (b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n", 404),
    ],
    ids=["header", "target", "row", "batch", "no route"],
)
def test_an_endless_request_is_cut_off(model: Model, start: bytes, status: int) -> None:
    """The client has its answer, and the server does not read the rest."""
    with model.connect() as connection:
        connection.sendall(start)
        sent = send_endlessly(connection)
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 %d" % status)
    assert sent < BUFFERED


def test_deadlines_end_what_never_ends(strict: Model, held_out_inputs: list[Row]) -> None:
    """Half a head and half a body are answered 408; idle connections are closed."""
    good = json.dumps(held_out_inputs[0]).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(good)
    before = strict.scrape()
    with ExitStack() as stack:
        new, kept, slow_head, slow_body = (stack.enter_context(strict.connect()) for _ in range(4))
        kept.sendall(head + good)
        slow_head.sendall(head[:30])
        slow_body.sendall(head + good[:10])
        answers = [*map(read_all, (new, kept, slow_head, slow_body))]

    assert [each[:12] for each in answers] == [
        *(b"", b"HTTP/1.1 200", b"HTTP/1.1 408", b"HTTP/1.1 408")
    ]
    assert answers[1].count(b"HTTP/1.1") == 1
    after = strict.scrape()
    for reason, count in (("head_timeout", 2), ("body_timeout", 1)):
        name = "http_rejections_total"
        assert total(after, name, reason=reason) - total(before, name, reason=reason) == count
    assert total(after, "http_requests_inprogress") == 0


def test_idle_connections_do_not_end_the_service(strict: Model, held_out_inputs: list[Row]) -> None:
    """Far more than fit are opened; health checks and predictions have room at once."""
    before = rejected(strict, "connections")
    with ExitStack() as stack:
        for _ in range(IDLE):
            stack.enter_context(strict.connect())
        for _ in range(MAX_CONNECTIONS):
            assert httpx.get(f"{strict.url}/readyz").status_code == HTTPStatus.OK
            answer = httpx.post(f"{strict.url}/predict", json=held_out_inputs[0])
            assert answer.status_code == HTTPStatus.OK
        assert rejected(strict, "connections") - before >= IDLE - WORKERS * MAX_CONNECTIONS


def test_slow_clients_do_not_disturb_others(model: Model, held_out_inputs: list[Row]) -> None:
    """200 clients keep a request unfinished while another one is served as usual."""
    body = json.dumps(held_out_inputs[0]).encode()
    whole = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    before = total(model.scrape(), "model_predictions_total")
    with ExitStack() as stack, httpx.Client(base_url=model.url) as healthy:
        slow = [stack.enter_context(model.connect()) for _ in range(SLOW)]
        for start in range(0, len(whole) - 1, 50):
            for each in slow:
                each.sendall(whole[start : min(start + 50, len(whole) - 1)])
            assert healthy.post("/predict", content=body).status_code == HTTPStatus.OK
        for each in slow:
            each.sendall(whole[-1:])
            each.shutdown(socket.SHUT_WR)
        assert {read_all(each)[:12] for each in slow} == {b"HTTP/1.1 200"}
    asked = SLOW + len(range(0, len(whole) - 1, 50))
    assert total(model.scrape(), "model_predictions_total") - before == asked


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/"])
def test_a_half_closed_client_gets_its_answer(
    model: Model, held_out_inputs: list[Row], path: str
) -> None:
    """As from `nc -N`, which closes its own direction after the request."""
    row = held_out_inputs[0]
    body = json.dumps({"instances": [row]} if path == "/predict/batch" else row).encode()
    method = "GET" if path == "/" else "POST"
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    with model.connect() as connection:
        connection.sendall(head.encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = read_all(connection)

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"}")


def test_a_reload_waits_for_a_head_that_has_begun(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """Its request is answered by the worker that is being replaced."""
    body = json.dumps(held_out_inputs[0]).encode()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    with (
        start_model(MODEL_WORKERS="1") as model,
        model.connect() as idle,
        model.connect() as connection,
    ):
        (old,) = model.pids()
        connection.sendall(head[:30])
        httpx.get(f"{model.url}/readyz").raise_for_status()
        model.program.signal(signal.SIGHUP)
        # When those at rest are closed, one that has begun is not.
        assert read_all(idle) == b""
        assert alive(old)
        connection.sendall(head[30:] + body)
        assert read_all(connection).startswith(b"HTTP/1.1 200")
        model.wait_for_replacement(old)


@contextmanager
def probing(model: Model) -> Iterator[list[int]]:
    """Ask for health and metrics without a pause; yield the list of statuses."""
    stop, statuses = threading.Event(), list[int]()

    def probe() -> None:
        while not stop.is_set():
            statuses.append(httpx.get(f"{model.url}/readyz", timeout=60).status_code)
            statuses.append(httpx.get(model.metrics_url, timeout=60).status_code)

    thread = threading.Thread(target=probe)
    thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        thread.join()


def test_an_overload_is_shed(start_model: StartModel, held_out_inputs: list[Row]) -> None:
    """Batches that come faster than they are predicted get the right answer or a 503.

    Each 503 is counted, probes and metrics are answered throughout, and then all is as before.
    """
    rows = (held_out_inputs * 1_000)[:1_000]
    batch = json.dumps({"instances": rows}).encode()
    with start_model(MODEL_WORKERS="1", MODEL_OVERLOAD_SECONDS="0.01") as model:
        alone = httpx.post(f"{model.url}/predict/batch", content=batch)
        expected = [each["quality"] for each in alone.json()["predictions"]]

        def ask(_: int) -> list[int]:
            with httpx.Client(base_url=model.url, timeout=60) as client:
                answers = [
                    client.post("/predict/batch", content=batch) for _ in range(ASKED_BY_EACH)
                ]
            for each in answers:
                if each.status_code == HTTPStatus.OK:
                    found = [every["quality"] for every in each.json()["predictions"]]
                    assert found == expected
                else:
                    assert each.headers["retry-after"] == "1"
            return [each.status_code for each in answers]

        with probing(model) as probed, ThreadPoolExecutor(FLOODING) as pool:
            statuses = Counter(status for each in pool.map(ask, range(FLOODING)) for status in each)
        again = httpx.post(f"{model.url}/predict/batch", content=batch)

        assert statuses.keys() == {HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE}
        assert set(probed) == {HTTPStatus.OK}
        assert again.status_code == HTTPStatus.OK
        samples = model.scrape()
        shed = statuses[HTTPStatus.SERVICE_UNAVAILABLE]
        assert total(samples, "http_rejections_total", reason="overload") == shed
        by_status = by_label(samples, "http_requests_total", "status", handler="/predict/batch")
        assert by_status == {"2xx": statuses[HTTPStatus.OK] + 2, "4xx": 0, "5xx": shed}
        assert total(samples, "model_predictions_total") == 1_000 * (statuses[HTTPStatus.OK] + 2)
