"""The life of the service: two starts, the end of its master, and the last scrape."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.service.conftest import StartModel
from tests.service.test_shutdown import begin, finish, wait_for_progress
from tests.support.example import Row
from tests.support.machine import free_port
from tests.support.model import SERVICE, Model, parse, start_model, total
from tests.support.processes import alive, environment, running
from tests.support.wait import eventually

STOPS = 20
# So much longer than a stop takes that the last scrape before it misses requests.
SCRAPE_SECONDS = 0.8
SCRAPES = 40


def settings_of(model: Model, bundle: Path) -> dict[str, str]:
    """Return the settings with which a service was started."""
    return {
        "MODEL_BUNDLE": str(bundle),
        "MODEL_PORT": str(urlsplit(model.url).port),
        "MODEL_METRICS_PORT": str(urlsplit(model.metrics_url).port),
        "PROMETHEUS_MULTIPROC_DIR": str(model.metrics_dir),
    }


@pytest.mark.parametrize("port", ["same", "others"])
def test_a_second_start_does_not_touch_the_running_service(
    start_model: StartModel, example_bundle: Path, held_out_inputs: list[Row], port: str
) -> None:
    """It ends with one line, and the running service counts on where it was."""
    with start_model() as model:
        settings = settings_of(model, example_bundle)
        if port == "others":
            settings |= {"MODEL_PORT": str(free_port()), "MODEL_METRICS_PORT": str(free_port())}
        httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).raise_for_status()
        second = subprocess.run(
            [sys.executable, "entrypoint.py"],
            cwd=SERVICE,
            env=environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).raise_for_status()

        assert total(model.scrape(), "model_predictions_total") == 2
    (line,) = second.stderr.splitlines()
    assert second.returncode == 1
    assert ("in use by another service" if port == "others" else "already in use") in line


def test_a_scrape_without_a_live_workers_file_fails(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """Prometheus sees a failed scrape, not counters that fell to 0."""
    with start_model(MODEL_WORKERS="1") as model:
        (worker,) = model.pids()
        httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).raise_for_status()
        for path in model.metrics_dir.glob(f"*_{worker}.db"):
            path.unlink()
        answer = httpx.get(model.metrics_url)

        assert answer.status_code == 500
        assert str(worker) in answer.text


class Scraper:
    """Scrapes over one connection until the service ends, like Prometheus; keeps the last page."""

    def __init__(self, model: Model, seconds: float) -> None:
        address = urlsplit(model.metrics_url)
        assert address.hostname
        self._connection = HTTPConnection(address.hostname, address.port, timeout=30)
        self._seconds = seconds
        self._stop = threading.Event()
        self.page = self._scrape()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _scrape(self) -> str:
        self._connection.request("GET", "/metrics")
        return self._connection.getresponse().read().decode()

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.page = self._scrape()
            except (OSError, HTTPException):
                break
        self._connection.close()


class Client:
    """Sends a row again and again over one connection, until the service closes it."""

    def __init__(self, model: Model, row: Row) -> None:
        address = urlsplit(model.url)
        assert address.hostname
        self._connection = HTTPConnection(address.hostname, address.port, timeout=30)
        self._body = json.dumps(row)
        self.answered = 0
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            while True:
                self._connection.request("POST", "/predict", self._body)
                answer = self._connection.getresponse()
                answer.read()
                self.answered += answer.status == httpx.codes.OK
                if answer.will_close:
                    break
        except (OSError, HTTPException):
            pass
        self._connection.close()


def all_answered(clients: list[Client]) -> bool:
    """Return whether each client has had an answer."""
    return all(each.answered for each in clients)


def test_every_answered_request_is_scraped_before_the_end(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Clients with open connections send until the end; the last scrape has counted everything."""
    for number in range(STOPS):
        directory = tmp_path / str(number)
        directory.mkdir()
        model = start_model(example_bundle, directory, MODEL_WORKERS="1")
        with running(model.program):
            model.wait_until_ready()
            scraper = Scraper(model, SCRAPE_SECONDS)
            clients = [Client(model, row) for row in held_out_inputs[:2]]
            eventually(partial(all_answered, clients), "every client has an answer")
            model.program.signal(signal.SIGTERM)
            for thread in (*(each.thread for each in clients), scraper.thread):
                thread.join()

            assert model.program.wait() == 0
        answered = sum(each.answered for each in clients)
        samples = parse(scraper.page)
        assert total(samples, "model_predictions_total") == answered
        assert total(samples, "http_requests_total", handler="/predict", status="2xx") == answered


def test_a_stop_does_not_wait_for_a_scraper_that_is_gone(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """Neither a scraper that closed its connection nor a client of other pages delays it."""
    with start_model(MODEL_WORKERS="1") as model, httpx.Client() as other:
        model.scrape()
        other.get(model.metrics_url.removesuffix("/metrics")).raise_for_status()
        httpx.post(f"{model.url}/predict", json=held_out_inputs[0]).raise_for_status()
        model.program.signal(signal.SIGTERM)

        assert model.program.wait(timeout=10) == 0


@contextmanager
def slow_scrapes(model: Model) -> Iterator[list[socket.socket]]:
    """Hold connections to the metrics port whose requests are incomplete."""
    address = urlsplit(model.metrics_url)
    found = [socket.create_connection((address.hostname, address.port)) for _ in range(SCRAPES)]
    try:
        for each in found:
            each.sendall(b"GET /metrics HTTP/1.1\r\n")
        yield found
    finally:
        for each in found:
            each.close()


def sockets_of(pid: int) -> int:
    """Return the number of sockets that a process holds."""
    held = 0
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            held += str(each.readlink()).startswith("socket:")
    return held


def descriptors_of(pid: int) -> int:
    """Return the number of a process's descriptors."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def test_a_worker_inherits_no_connection(start_model: StartModel) -> None:
    """It would keep the master's port, and the connections of scrapers, for as long as it lives."""
    with start_model(MODEL_WORKERS="1") as model:
        (before,) = model.pids()
        expected = sockets_of(before)
        with slow_scrapes(model):
            os.kill(before, signal.SIGKILL)
            (after,) = model.wait_for_replacement(before)

            eventually(lambda: sockets_of(after) <= expected, "it has as few as the first one")
            assert total(model.scrape(), "model_info") == 1


def test_reloads_leak_no_descriptor(start_model: StartModel) -> None:
    """The master has as many after several reloads as after the first."""
    with start_model(MODEL_WORKERS="1") as model:
        counted = []
        for number in range(4):
            before = model.pids()
            model.program.signal(signal.SIGHUP)
            for pid in before:
                model.wait_for_replacement(pid)
            assert total(model.scrape(), "service_reloads_total") == number + 1
            counted.append(descriptors_of(model.program.pid))

    assert counted == [counted[0]] * 4


def test_a_killed_master_is_soon_succeeded(
    example_bundle: Path, tmp_path: Path, held_out_inputs: list[Row]
) -> None:
    """Even if a client stalls in the middle of a request; one that does not is answered."""
    ports = {"MODEL_PORT": str(free_port()), "MODEL_METRICS_PORT": str(free_port())}
    model = start_model(example_bundle, tmp_path, **ports)
    body = json.dumps(held_out_inputs[0]).encode()
    try:
        pids = model.wait_until_ready()
        with model.connect() as stalled, model.connect() as slow:
            begin(stalled, body)
            rest = begin(slow, body)
            wait_for_progress(model, 2)
            model.program.signal(signal.SIGKILL)

            assert finish(slow, rest).startswith(b"HTTP/1.1 200")
            eventually(lambda: not any(map(alive, pids)), "the workers are gone", timeout=10)
    finally:
        model.program.kill()

    again = start_model(example_bundle, tmp_path, **ports)
    with running(again.program):
        again.wait_until_ready()
