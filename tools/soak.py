"""Load a service for some minutes while it is reloaded, killed and scraped: ./task soak -- MINUTES.

The service is one of its own, on free ports, with the bundle of `./task train`. Its clients send at
half the rate that they reach together. In turn a worker is killed, all are reloaded, and nonsense
is sent. At the end the service is stopped under load. Exit status 1 if a count is wrong, a request
failed that no kill explains, or memory or descriptors of the master grew.
"""

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tools import ROOT
from tools.stack import setup
from tools.stack.ports import free_port
from tools.stack.settings import load_settings, read_env_file

CLIENTS = 8
WORKERS = 2
_START_SECONDS = 60.0
_CALIBRATION_SECONDS = 3.0
_SCRAPE_SECONDS = 1.0
_TURN_SECONDS = 4.0
# The master's memory may grow by this share after the first quarter; short runs say nothing of it.
MAX_GROWTH = 0.05
_MIN_SECONDS = 120.0


class SoakError(Exception):
    """The service could not be loaded at all; the message is one line."""


@dataclass
class Report:
    """What was sent, counted and measured; `faults` are one line each."""

    answered: int = 0
    # Those refused by an overloaded worker (503) have failed, too.
    failed: int = 0
    refused: int = 0
    counted: int = 0
    requests: int = 0
    scrapes: int = 0
    failed_scrapes: int = 0
    kills: int = 0
    reloads: int = 0
    rate: float = 0.0
    # (memory in bytes, descriptors) of the master.
    usage: list[tuple[int, int]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


class Client:
    """Sends one row again and again over one connection, at a rate that can be changed."""

    def __init__(self, port: int, body: bytes) -> None:
        self.rate = float("inf")
        self.answered = self.failed = self.refused = 0
        self._port, self._body = port, body
        # Whether the service is being stopped: the client then opens no other connection.
        self.is_last = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        """End after the next answer."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        due = time.monotonic()
        while not self._stop.is_set() and not (self.is_last and connection.sock is None):
            try:
                connection.request("POST", "/predict", self._body)
                answer = connection.getresponse()
                answer.read()
                self.answered += answer.status == http.client.OK
                self.failed += answer.status != http.client.OK
                self.refused += answer.status == http.client.SERVICE_UNAVAILABLE
            except (OSError, http.client.HTTPException):
                self.failed += 1
                connection.close()
                self._stop.wait(0.01)
            due = max(due + 1 / self.rate, time.monotonic() - 1)
            self._stop.wait(max(0.0, due - time.monotonic()))
        connection.close()


class Service:
    """A running service."""

    def __init__(self, bundle: Path, directory: Path) -> None:
        self.port, self.metrics_port = free_port(), free_port()
        self.log = directory / "model.log"
        self._scraper = http.client.HTTPConnection("127.0.0.1", self.metrics_port, timeout=30)
        environment = {
            **os.environ,
            **read_env_file(ROOT / "services" / "model" / "settings.env"),
            "MODEL_BUNDLE": str(bundle),
            "MODEL_HOST": "127.0.0.1",
            "MODEL_PORT": str(self.port),
            "MODEL_METRICS_PORT": str(self.metrics_port),
            "MODEL_WORKERS": str(WORKERS),
            "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "entrypoint.py"],
                cwd=ROOT / "services" / "model",
                env=environment,
                stdout=log,
                stderr=log,
            )

    def workers(self) -> list[int]:
        """Return the pids of its workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]

    def usage(self) -> tuple[int, int]:
        """Return the master's memory in bytes, and the number of its descriptors."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kilobytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", status, re.MULTILINE)
        return 1024 * int(kilobytes), len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def scrape(self) -> str:
        """Return the page, over a connection that stays open. Raises OSError, HTTPException."""
        try:
            self._scraper.request("GET", "/metrics")
            answer = self._scraper.getresponse()
            text = answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._scraper.close()
            raise
        if answer.status != http.client.OK:
            raise http.client.HTTPException(text)
        return text

    def kill(self) -> None:
        """End at once."""
        self._scraper.close()
        self.process.kill()
        self.process.wait()

    def is_ready(self) -> bool:
        """Return whether it predicts and is scraped. Raises SoakError if it has ended."""
        if self.process.poll() is not None:
            raise SoakError(f"the service ended: {self.log.read_text().strip()}")
        try:
            self.scrape()
            socket.create_connection(("127.0.0.1", self.port)).close()
        except (OSError, http.client.HTTPException):
            return False
        return len(self.workers()) == WORKERS


def soak(bundle: Path, seconds: float) -> Report:
    """Return what happened to a service within some seconds."""
    report = Report()
    with tempfile.TemporaryDirectory() as directory:
        service = Service(bundle, Path(directory))
        try:
            _wait(service.is_ready, _START_SECONDS)
            _run(service, bundle, seconds, report)
        finally:
            service.kill()
    _judge(report, seconds)
    return report


def _run(service: Service, bundle: Path, seconds: float, report: Report) -> None:
    manifest = json.loads((bundle / "bundle.json").read_text("utf-8"))
    body = json.dumps({each["name"]: each["example"] for each in manifest["features"]}).encode()
    clients = [Client(service.port, body) for _ in range(CLIENTS)]
    try:
        time.sleep(_CALIBRATION_SECONDS)
        report.rate = sum(each.answered for each in clients) / _CALIBRATION_SECONDS / 2
        for each in clients:
            each.rate = report.rate / CLIENTS
        _disturb(service, time.monotonic() + seconds, report)
        page = _stop(service, clients, report)
    finally:
        for each in clients:
            each.stop()
    report.answered = sum(each.answered for each in clients)
    report.failed = sum(each.failed for each in clients)
    report.refused = sum(each.refused for each in clients)
    report.counted = _total(page, "model_predictions_total")
    report.requests = _total(page, "http_requests_total", 'handler="/predict"', 'status="2xx"')


def _disturb(service: Service, end: float, report: Report) -> None:
    """Scrape every second; in turn kill a worker, reload, and send nonsense."""
    turns = count()
    due = time.monotonic()
    while time.monotonic() < end:
        if time.monotonic() >= due:
            due += _TURN_SECONDS
            _turn(service, next(turns), report)
        try:
            service.scrape()
            report.scrapes += 1
        except (OSError, http.client.HTTPException):
            report.failed_scrapes += 1
        report.usage.append(service.usage())
        time.sleep(_SCRAPE_SECONDS)
    _wait(lambda: len(service.workers()) == WORKERS, _START_SECONDS)


def _turn(service: Service, number: int, report: Report) -> None:
    if number % 3 == 0:
        os.kill(min(service.workers()), signal.SIGKILL)
        report.kills += 1
    elif number % 3 == 1:
        service.process.send_signal(signal.SIGHUP)
        report.reloads += 1
    else:
        for nonsense in (b"no HTTP\r\n\r\n", b"POST /predict HTTP/1.1\r\n", b""):
            with socket.create_connection(("127.0.0.1", service.port)) as connection:
                connection.sendall(nonsense)


def _stop(service: Service, clients: Sequence[Client], report: Report) -> str:
    """Stop the service while clients send; return the last page."""
    for each in clients:
        each.is_last = True
    service.process.send_signal(signal.SIGTERM)
    page = ""
    while service.process.poll() is None:
        try:
            page = service.scrape()
            time.sleep(_SCRAPE_SECONDS)
        except (OSError, http.client.HTTPException):
            time.sleep(0.05)
    if service.process.returncode:
        report.faults.append(f"the exit status is {service.process.returncode}")
    return page


def _judge(report: Report, seconds: float) -> None:
    for name, counted in (("predictions", report.counted), ("requests", report.requests)):
        if not report.answered <= counted <= report.answered + report.failed:
            report.faults.append(f"{report.answered} answered, but {counted} {name} counted")
    # Each client has one request at a time, and a killed worker takes its own with it.
    if report.failed > CLIENTS * report.kills:
        report.faults.append(
            f"{report.failed} requests failed, {report.refused} of them with status 503,"
            f" by {report.kills} kills"
        )
    if report.failed_scrapes:
        report.faults.append(f"{report.failed_scrapes} scrapes failed")
    if seconds >= _MIN_SECONDS:
        _judge_usage(report)


def _judge_usage(report: Report) -> None:
    quarter = len(report.usage) // 4
    (memory, descriptors), (last, held) = (
        (max(each[i] for each in part) for i in range(2))
        for part in (report.usage[quarter : 2 * quarter], report.usage[-quarter:])
    )
    if last > memory * (1 + MAX_GROWTH):
        report.faults.append(f"the master's memory grew from {memory:,} to {last:,} bytes")
    if held > descriptors:
        report.faults.append(f"the master's descriptors grew from {descriptors} to {held}")


def _total(page: str, name: str, *labels: str) -> int:
    lines = (line for line in page.splitlines() if line.startswith(f"{name}{{"))
    return round(
        sum(
            float(line.rpartition(" ")[2]) for line in lines if all(each in line for each in labels)
        )
    )


def _wait(check: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SoakError(f"the service was not ready after {seconds:g} s")
        time.sleep(0.1)


def main() -> int:
    """Soak, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("minutes", type=float, nargs="?", default=5.0)
    try:
        report = soak(setup.bundle(load_settings()), 60 * parser.parse_args().minutes)
    except SoakError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    print(
        f"{report.rate:,.0f} requests/s; {report.answered:,} answered, {report.failed} failed"
        f" ({report.refused} with status 503);"
        f" {report.counted:,} predictions and {report.requests:,} requests counted\n"
        f"{report.kills} workers killed, {report.reloads} reloads, {report.scrapes} scrapes"
    )
    quarter = len(report.usage) // 4
    for name, (memory, descriptors) in (
        ("after a quarter", report.usage[quarter]),
        ("at the end", report.usage[-1]),
    ):
        print(f"the master {name}: {memory / 1e6:.1f} MB, {descriptors} descriptors")
    for fault in report.faults:
        print(f"soak: {fault}", file=sys.stderr)
    return 1 if report.faults else 0


if __name__ == "__main__":
    sys.exit(main())
