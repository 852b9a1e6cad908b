"""Prometheus counts rows once though scrapes fail, the service restarts, or it is down itself.

tests/rules/test_increase_values.py shows more of the same without a Prometheus that stops.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tests.service.conftest import MINUTE_SECONDS
from tests.support.prometheus import RULES, Prometheus, hurried, running_prometheus
from tests.support.wait import eventually

SHARES = np.array([20, 2, 0.2])
TICK_SECONDS = 0.02


class Exporter:
    """A service that counts rows all the time, and is scraped; it can fail and restart."""

    def __init__(self) -> None:
        self.rows = np.zeros(len(SHARES))
        self.fails, self.scrapes = False, 0
        self._rng, self._lock = np.random.default_rng(5), threading.Lock()
        self._process = np.zeros(len(SHARES))
        self._start = time.time()

    def count(self) -> None:
        """Count some rows."""
        with self._lock:
            new = self._rng.poisson(SHARES * TICK_SECONDS)
            self.rows += new
            self._process += new

    def restart(self) -> None:
        """Begin at 0, after a last scrape of the old process, and without a pause."""
        with self._lock:
            scrapes = self.scrapes
            eventually(lambda: self.scrapes >= scrapes + 2, "the old process is scraped once more")
            self._process = np.zeros(len(SHARES))
            self._start = time.time()

    def text(self) -> str:
        """Return the exposition."""
        labels = 'model="loans",version="a"'
        lines = [
            f'model_feature_bin_total{{{labels},feature="ph",bin="{index:02}"}} {count:g}'
            for index, count in enumerate(self._process)
        ]
        return "\n".join([f"model_start_time_seconds{{{labels}}} {self._start!r}", *lines, ""])


@contextmanager
def served(exporter: Exporter) -> Iterator[str]:
    """Serve an exporter's text on a free port; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = exporter.text().encode()
            self.send_response(503 if exporter.fails else 200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            exporter.scrapes += 1

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@contextmanager
def busy(exporter: Exporter) -> Iterator[None]:
    """Let the exporter count during the block."""
    stop = threading.Event()

    def go_on() -> None:
        while not stop.wait(TICK_SECONDS):
            exporter.count()

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(name="exporter")
def _exporter() -> Exporter:
    return Exporter()


def minutes_pass(exporter: Exporter, number: float) -> None:
    """Wait until as many rows have come as do in `number` of the rules' minutes."""
    enough = exporter.rows.sum() + number * MINUTE_SECONDS * SHARES.sum()
    eventually(lambda: exporter.rows.sum() >= enough, "more rows have come")


def recorded(prometheus: Prometheus) -> list[float]:
    """Return the rows of the hour by bin."""
    rows = 'model:increase{counter="feature_bin",window="1h"}'
    return [value for _, value in sorted(prometheus.by_label(rows, "bin").items())]


def test_rows_recorded_are_rows_counted(exporter: Exporter, tmp_path: Path) -> None:
    """Through failed scrapes, a restart of the service, and minutes without a Prometheus."""
    rules = hurried(RULES, tmp_path / "rules", MINUTE_SECONDS)
    with served(exporter) as address:
        targets = {"model": [address]}
        with busy(exporter):
            with running_prometheus(tmp_path, targets, rules) as prometheus:
                eventually(lambda: recorded(prometheus), "rows are recorded")
                exporter.fails = True
                minutes_pass(exporter, 2.5)
                exporter.fails = False
                minutes_pass(exporter, 1.3)
                exporter.restart()
                minutes_pass(exporter, 1.3)
            minutes_pass(exporter, 2.7)
            with running_prometheus(tmp_path, targets, rules):
                minutes_pass(exporter, 1.5)
        with running_prometheus(tmp_path, targets, rules) as prometheus:
            wanted = exporter.rows.tolist()
            prometheus.program.until(
                lambda: recorded(prometheus) == wanted, f"recorded are {wanted}"
            )
