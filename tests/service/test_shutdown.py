"""A stop finishes what is in flight, and leaves nothing behind."""

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
    """Send the rest of a body; return all that the server sends until it closes."""
    connection.sendall(rest)
    return b"".join(iter(lambda: connection.recv(65_536), b""))


def wait_for_progress(model: Model, count: int) -> None:
    """Wait until the workers have begun with so many requests."""
    eventually(
        lambda: total(model.scrape(), "http_requests_inprogress") == count,
        f"{count} requests are in progress",
    )


def refuses(model: Model) -> bool:
    """Whether the API takes no more connections."""
    try:
        model.connect().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
def test_a_request_in_flight_gets_its_answer(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row], path: str
) -> None:
    """Half a body is there when SIGTERM arrives: the rest may follow, and 200 is the answer."""
    row = held_out_inputs[0]
    body = json.dumps(row if path == "/predict" else {"instances": [row]}).encode()
    model = start_model(example_bundle, tmp_path)
    with running(model.program):
        model.wait_until_ready()
        with model.connect() as connection:
            rest = begin(connection, body, path)
            wait_for_progress(model, 1)
            model.program.signal(signal.SIGTERM)
            eventually(lambda: refuses(model), "new connections are refused")
            answer = finish(connection, rest)

        assert answer.startswith(b"HTTP/1.1 200")
        assert b'"prediction_id"' in answer
        assert model.program.wait() == 0


def test_a_worker_told_to_stop_finishes_too(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """SIGTERM to a worker alone: its request is answered, and counted for good."""
    body = json.dumps(held_out_inputs[0]).encode()
    with start_model(MODEL_WORKERS="1") as model:
        (worker,) = model.pids()
        with model.connect() as connection:
            rest = begin(connection, body)
            wait_for_progress(model, 1)
            os.kill(worker, signal.SIGTERM)
            eventually(
                lambda: "Shutting down" in model.program.output(), "the worker has been told"
            )
            answer = finish(connection, rest)
        model.wait_for_replacement(worker)

        assert answer.startswith(b"HTTP/1.1 200")
        assert total(model.scrape(), "model_predictions_total") == 1
        assert total(model.scrape(), "http_requests_inprogress") == 0


def test_a_reload_loses_no_request(start_model: StartModel, held_out_inputs: list[Row]) -> None:
    """Clients keep their connections and send without a pause, while all workers are replaced."""
    body = json.dumps(held_out_inputs[0])
    with start_model() as model, asking(model, body) as answered:
        for _ in range(RELOADS):
            before, count = model.pids(), len(answered)
            model.program.signal(signal.SIGHUP)
            eventually(partial(is_replaced, model, before, answered, count), "other workers answer")

    assert {each for each in answered if each != HTTPStatus.OK} == set()


def is_replaced(model: Model, before: set[int], answered: list[object], count: int) -> bool:
    """Tell whether none of these workers is left, and requests were answered since."""
    return (
        not any(map(alive, before)) and len(answered) > count and len(model.pids()) == model.workers
    )


@contextmanager
def asking(model: Model, body: str) -> Iterator[list[object]]:
    """Ask from several connections; yield the list of statuses, and of errors by their names."""
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


def test_a_client_that_never_finishes_does_not_hold_up_a_stop(
    example_bundle: Path, tmp_path: Path
) -> None:
    """After the graceful timeout the workers are ended, and no process remains."""
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
    """Exit code 0, no traceback, no process, both ports free; an idle connection is no delay."""
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


def test_workers_of_a_killed_master_go_too(example_bundle: Path, tmp_path: Path) -> None:
    """SIGKILL to the master: the workers notice, and the ports are free for the next start."""
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
