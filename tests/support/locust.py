"""A real locust in its own process, and a small strict service for its requests."""

import json
import math
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.machine import free_port
from tests.support.servers import serving
from tests.support.wait import eventually
from tools import ROOT
from traffic.client import Plan
from traffic.drift import Drift, mode_of
from traffic.manifest import Feature, Manifest
from traffic.rows import Populations, Row
from traffic.scenarios import SCENARIOS
from traffic.settings import Settings

# A model made up for tests, with features of every kind, without, with one and with two bounds.
MANIFEST = Manifest(
    path=Path("bundle.json"),
    name="made-up",
    target="score",
    features=(
        Feature("plain", sigma=2.0),
        Feature("share (%)", minimum=0, maximum=100, sigma=5.0),
        Feature("count", type="integer", minimum=-5, maximum=9_000_000, sigma=1.4),
        Feature("maybe", nullable=True, minimum=10),
    ),
    files=frozenset(),
)
MAX_BODY_BYTES = 2_000_000

Labels = frozenset[tuple[str, str]]


def seeded(seed: int = 0) -> Random:
    """Return a random source that is the same in every run."""
    return Random(seed)  # noqa: S311 simulation


def made_up_rows(count: int, first: int = 0) -> list[Row]:
    """Return distinct rows of the made-up model; every other one lacks a value."""
    return [
        Row(
            {
                "plain": number / 4,
                "share (%)": number % 100,
                "count": number,
                "maybe": None if number % 2 else 10.5,
            },
            actual=float(number),
        )
        for number in range(first, first + count)
    ]


def made_up_plan(**settings: Any) -> Plan:  # noqa: ANN401 of any setting's type
    """Return a plan for the made-up model, with 20 usual and 20 drifted rows and a fixed time."""
    given = Settings(bundle="bundle", **settings)
    return Plan(
        given,
        MANIFEST,
        SCENARIOS[given.scenario](MANIFEST),
        Populations(made_up_rows(20), made_up_rows(20, first=100)),
        Drift(mode_of(given.rows), given.gradual_seconds, clock=lambda: 0.0),
    )


def strict_status(body: bytes, manifest: Manifest = MANIFEST) -> int:
    """Return the status that a POST /predict with this body must get by the contract."""
    if len(body) > MAX_BODY_BYTES:
        return 413
    try:
        row = json.loads(body.decode(), parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return 422
    if not isinstance(row, dict):
        return 422
    return 200 if all(_is_allowed(row.get(each.name), each) for each in manifest.features) else 422


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_allowed(value: object, feature: Feature) -> bool:
    if value is None:
        return feature.nullable
    kind = int if feature.type == "integer" else int | float
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    minimum = -sys.float_info.max if feature.minimum is None else feature.minimum
    maximum = sys.float_info.max if feature.maximum is None else feature.maximum
    return minimum <= value <= maximum


class StrictService(ThreadingHTTPServer):
    """Answers `limit` requests as the model service should, and holds all further ones.

    The counts of the answers are then final and can be compared exactly.
    """

    daemon_threads = True

    def __init__(
        self, manifest: Manifest, limit: float = math.inf, *, broken: bool = False
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.manifest = manifest
        self.limit = limit
        self.broken = broken
        self.answered: Counter[tuple[str, str, int]] = Counter()
        self.predictions: set[str] = set()
        self.labels: list[dict[str, object]] = []
        self.last_row: dict[str, float] = {}
        self.released = threading.Event()
        self._begun = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The URL of the service."""
        return f"http://127.0.0.1:{self.server_port}"

    def admit(self) -> bool:
        """Return True within the limit; otherwise wait until the end and return False."""
        with self._lock:
            self._begun += 1
            within = self._begun <= self.limit
        return within or not self.released.wait()

    def count(self, method: str, path: str, status: int) -> None:
        """Count an answer."""
        with self._lock:
            self.answered[method, path, status] += 1

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StrictService

    def do_GET(self) -> None:
        self._answer({"/healthz": 200, "/predict": 405}.get(self.path, 404), {})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/feedback":
            self.server.labels += json.loads(body)
            self._answer(200, {"accepted": 1, "rejected": 0})
        else:
            prediction_id = str(len(self.server.predictions))
            self.server.predictions.add(prediction_id)
            manifest = self.server.manifest
            status = strict_status(body, manifest)
            if status == HTTPStatus.OK:
                self.server.last_row = json.loads(body)
            self._answer(status, {manifest.target: 5.5, "prediction_id": prediction_id})

    def _answer(self, status: int, answer: dict[str, object]) -> None:
        if not self.server.admit():
            self.close_connection = True
            return
        status = 500 if self.server.broken else status
        self.server.count(self.command, self.path, status)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def strict_service(
    manifest: Manifest, limit: float = math.inf, *, broken: bool = False
) -> Iterator[StrictService]:
    """Run a strict service of a model; `broken` makes it answer everything with 500."""
    with serving(StrictService(manifest, limit, broken=broken)) as server:
        try:
            yield server
        finally:
            server.released.set()


@dataclass
class Locust:
    """A locust process that was started with environment variables only."""

    process: subprocess.Popen[bytes]
    log: Path
    metrics_port: int

    def metrics(self) -> dict[str, dict[Labels, float]]:
        """Return the exporter's samples by name and labels."""
        answer = httpx.get(f"http://127.0.0.1:{self.metrics_port}/metrics")
        samples: dict[str, dict[Labels, float]] = {}
        for family in text_string_to_metric_families(answer.raise_for_status().text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
        return samples

    def by_name(self, metric: str) -> dict[str, float]:
        """Return a metric's values summed by request name."""
        totals: Counter[str] = Counter()
        for labels, value in self.metrics()[metric].items():
            totals[dict(labels)["name"]] += value  # type: ignore[assignment]
        return dict(totals)

    def wait_for_requests(self, count: int) -> dict[str, float]:
        """Return the requests by name once the exporter has counted exactly `count`."""

        def reached() -> dict[str, float] | None:
            assert self.process.poll() is None, self.log.read_text()
            requests = self.by_name("locust_requests_total")
            return requests if sum(requests.values()) == count else None

        return eventually(reached, f"{count} requests in the exporter", timeout=60)


@contextmanager
def locust(log: Path, bundle: Path, **settings: object) -> Iterator[Locust]:
    """Run `python -m locust` for a bundle with these LOCUST_ settings, named without the prefix."""
    port = free_port()
    environment = _environment({"metrics_port": port, "bundle": bundle} | settings)
    with (
        log.open("wb") as file,
        subprocess.Popen(
            [sys.executable, "-m", "locust"],
            cwd=ROOT / "services" / "locust",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            yield Locust(process, log, port)
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def _environment(settings: Mapping[str, object]) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("LOCUST_", "PYTHON"))}
    given = {f"LOCUST_{name.upper()}": str(value) for name, value in settings.items()}
    return inherited | given
