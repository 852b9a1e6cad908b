"""Starts servers on given cores, waits until they predict, and stops them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

from bench.machine import BenchError, pinned
from bench.wrk import Request

START_SECONDS = 90.0
_STOP_SECONDS = 15.0

Row = Mapping[str, float]


@dataclass(frozen=True)
class Server:
    """A way of serving the model: its command, its request format and its response format."""

    name: str
    argv: Sequence[str]
    port: int
    path: str = "/predict"
    # Maps a row to a request body, and a response to its prediction.
    body: Callable[[Row], Any] = dict
    # The target comes first in an answer.
    prediction: Callable[[Any], float] = lambda answer: float(next(iter(answer.values())))
    environment: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    # Whether it uses its core while idle, and so must be suspended while others are measured.
    polls_when_idle: bool = False

    @property
    def url(self) -> str:
        """The URL of predictions."""
        return f"http://127.0.0.1:{self.port}{self.path}"

    def request(self, rows: Sequence[Row]) -> Request:
        """Return the request for each of these rows in turn."""
        return Request(self.url, [json.dumps(self.body(row)).encode() for row in rows])

    def predict(self, row: Row) -> float:
        """Return the prediction of one row. Raises OSError."""
        request = HttpRequest(  # noqa: S310 of 127.0.0.1
            self.url, json.dumps(self.body(row)).encode(), {"Content-Type": "application/json"}
        )
        with urlopen(request, timeout=10) as answer:  # noqa: S310
            return self.prediction(json.load(answer))


@dataclass(frozen=True)
class Running:
    """A server that is ready to predict."""

    server: Server
    pid: int
    seconds_to_ready: float

    def suspend(self) -> None:
        """Suspend its processes if it uses its core while idle."""
        if self.server.polls_when_idle:
            os.killpg(self.pid, signal.SIGSTOP)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Let it run while the block runs."""
        os.killpg(self.pid, signal.SIGCONT)
        try:
            yield
        finally:
            self.suspend()


@contextmanager
def running(server: Server, on: set[int], log: Path, row: Row) -> Iterator[Running]:
    """Run a server on some cores while the block runs, from when it predicts `row`.

    Raises BenchError.
    """
    with log.open("wb") as output, pinned(on):
        start = time.perf_counter()
        process = subprocess.Popen(
            server.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=server.cwd,
            env=_environment() | dict(server.environment),
            start_new_session=True,
        )
    try:
        _wait(server, process, log, row)
        yield Running(server, process.pid, time.perf_counter() - start)
    finally:
        _stop(process)


def _wait(server: Server, process: "subprocess.Popen[bytes]", log: Path, row: Row) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            server.predict(row)
        except (URLError, OSError):
            time.sleep(0.01)
        else:
            return
    raise BenchError(f"{server.name} did not start: {last_line(log)}")


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "it logged nothing"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Stop the server and every process that it started."""
    process.terminate()
    # A suspended process handles SIGTERM only after SIGCONT.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGCONT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment() -> dict[str, str]:
    """Return this process's environment without the settings of any service."""
    foreign = ("MODEL_", "PROMETHEUS_", "GUNICORN_", "WEB_CONCURRENCY")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
