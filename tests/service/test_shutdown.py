"""A stop completes the requests in progress and leaves no process behind."""

import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.machine import free_port
from tests.support.model import Model, start_model, total
from tests.support.processes import alive, running
from tests.support.wait import eventually

CLIENTS = 8
RELOADS = 4


def begin(connection: socket.socket, body: bytes, path: str = "/predict") -> bytes:
    """Send a request's head and half of its body; return the other half."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    half = len(body) // 2
    connection.sendall(head.encode() + body[:half])
    return body[half:]


def finish(connection: socket.socket, rest: bytes) -> bytes:
    """Send the rest of a body; return everything that the server sends until it closes."""
    connection.sendall(rest)
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def wait_for_progress(model: Model, count: int) -> None:
    """Wait until a number of requests is in progress."""
    eventually(
        lambda: total(model.scrape(), "http_requests_inprogress") == count,
        f"{count} requests are in progress",
    )


def is_closed(model: Model) -> bool:
    """Return whether the API accepts no more connections."""
    try:
        model.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_request_in_progress_is_answered(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row], path: str
) -> None:
    """If half of a body has arrived before SIGTERM, the rest is read and the answer is 200."""
    row = held_out_inputs[0]
    body = json.dumps(row if path == "/predict" else {"instances": [row]}).encode()
    model = start_model(example_bundle, tmp_path)
    with running(model.program):
        model.wait_until_ready()
        with model.connect() as connection:
            rest = begin(connection, body, path)
            wait_for_progress(model, 1)
            model.program.signal(signal.SIGTERM)
            eventually(lambda: is_closed(model), "the API accepts no connections")
            answer = finish(connection, rest)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"prediction_id"' in answer
        assert model.program.wait() == 0


def test_a_stopped_worker_answers_its_request(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """A request to a worker that gets SIGTERM is answered and counted."""
    body = json.dumps(held_out_inputs[0]).encode()
    with start_model(MODEL_WORKERS="1") as model:
        (worker,) = model.pids()
        with model.connect() as connection:
            rest = begin(connection, body)
            wait_for_progress(model, 1)
            os.kill(worker, signal.SIGTERM)
            eventually(
                lambda: "Shutting down" in model.program.output(), "the worker is shutting down"
            )
            answer = finish(connection, rest)
        model.wait_for_replacement(worker)

        assert answer.startswith(b"HTTP/1.1 200")
        assert total(model.scrape(), "model_predictions_total") == 1
        assert total(model.scrape(), "http_requests_inprogress") == 0


def test_a_reload_loses_no_request(start_model: StartModel, held_out_inputs: list[Row]) -> None:
    """Clients with open connections send without a pause while all workers are replaced."""
    body = json.dumps(held_out_inputs[0])
    with start_model() as model, asking(model, body) as answered:
        for _ in range(RELOADS):
            before, count = model.pids(), len(answered)
            model.program.signal(signal.SIGHUP)
            eventually(partial(is_replaced, model, before, answered, count), "other workers answer")

    assert {each for each in answered if each != HTTPStatus.OK} == set()


def is_replaced(model: Model, before: set[int], answered: list[object], count: int) -> bool:
    """Return whether none of these workers is left and requests were answered since."""
    return (
        not any(map(alive, before)) and len(answered) > count and len(model.pids()) == model.workers
    )


@contextmanager
def asking(model: Model, body: str) -> Iterator[list[object]]:
    """Send requests over several connections; yield the list of statuses and errors."""
    address = urlsplit(model.url)
    assert address.hostname
    stop = threading.Event()
    answered: list[object] = []

    def ask(client: HTTPConnection) -> None:
        while not stop.is_set():
            try:
                client.request("POST", "/predict", body)
                response = client.getresponse()
                response.read()
                answered.append(response.status)
            except (OSError, HTTPException) as error:
                answered.append(repr(error))
                client.close()

    clients = [HTTPConnection(address.hostname, address.port, timeout=60) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=ask, args=(each,)) for each in clients]
    for each in threads:
        each.start()
    try:
        yield answered
    finally:
        stop.set()
        for each in threads:
            each.join()
        for client in clients:
            client.close()


def test_an_unfinished_request_does_not_block_a_stop(example_bundle: Path, tmp_path: Path) -> None:
    """After the graceful timeout the workers are killed, and no process remains."""
    model = start_model(example_bundle, tmp_path, MODEL_GRACEFUL_TIMEOUT="1")
    with running(model.program):
        model.wait_until_ready()
        with model.connect() as connection:
            begin(connection, b"{" + b" " * 100)
            wait_for_progress(model, 1)
            model.program.signal(signal.SIGTERM)

            assert model.program.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_is_clean(example_bundle: Path, tmp_path: Path, number: signal.Signals) -> None:
    """The exit code is 0, both ports are free, and an idle connection causes no delay."""
    model = start_model(example_bundle, tmp_path, MODEL_GRACEFUL_TIMEOUT="600")
    with running(model.program), httpx.Client(base_url=model.url) as idle:
        pids = model.wait_until_ready()
        idle.get("/healthz").raise_for_status()
        model.program.signal(number)

        assert model.program.wait() == 0
    assert "Traceback" not in model.program.output()
    assert not any(map(alive, pids))
    for url in (model.url, model.metrics_url):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", urlsplit(url).port))


def test_workers_end_after_their_master_was_killed(example_bundle: Path, tmp_path: Path) -> None:
    """The ports are then free for the next start."""
    ports = {"MODEL_PORT": str(free_port()), "MODEL_METRICS_PORT": str(free_port())}
    model = start_model(example_bundle, tmp_path, **ports)
    try:
        pids = model.wait_until_ready()
        model.program.signal(signal.SIGKILL)
        eventually(lambda: not any(map(alive, pids)), "the workers are gone")
    finally:
        model.program.kill()

    again = start_model(example_bundle, tmp_path, **ports)
    with running(again.program):
        again.wait_until_ready()
