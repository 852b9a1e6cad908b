"""The real model service on free ports: gunicorn, its workers and its metrics server."""

import json
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from tests.support.machine import free_port
from tests.support.processes import Program, alive, running
from tools import ROOT

SERVICE = ROOT / "services" / "model"

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@dataclass(frozen=True)
class Model:
    """A running service."""

    program: Program
    url: str
    metrics_url: str
    metrics_dir: Path
    workers: int

    def scrape(self) -> Samples:
        """Return the samples of one scrape by (name, labels)."""
        return parse(httpx.get(self.metrics_url).raise_for_status().text)

    def connect(self) -> socket.socket:
        """Return a connection to the API."""
        address = urlsplit(self.url)
        assert address.hostname
        assert address.port
        return socket.create_connection((address.hostname, address.port), timeout=60)

    def pids(self) -> set[int]:
        """Return the live workers that have logged that they are ready."""
        lines = self.program.output().splitlines()
        entries = (json.loads(line) for line in lines if line[:1] == "{")
        return {
            line["process"]
            for line in entries
            if line["message"] == "ready" and alive(line["process"])
        }

    def wait_until_ready(self) -> set[int]:
        """Return the workers' pids once all of them and the metrics server are ready."""

        def ready() -> set[int] | None:
            httpx.get(self.metrics_url).raise_for_status()
            httpx.get(f"{self.url}/readyz").raise_for_status()
            pids = self.pids()
            return pids if len(pids) == self.workers else None

        return self.program.until(ready, f"{self.workers} workers are ready")

    def wait_for_replacement(self, pid: int) -> set[int]:
        """Return the workers' pids once worker `pid` has ended and been replaced."""
        self.program.until(lambda: not alive(pid), f"worker {pid} is gone")
        return self.wait_until_ready()


def start_model(bundle: Path, directory: Path, **settings: str) -> Model:
    """Start the service, with its metrics and its log in `directory`.

    `settings` are environment variables, such as MODEL_WORKERS.
    """
    given = {
        "MODEL_BUNDLE": str(bundle),
        "MODEL_HOST": "127.0.0.1",
        "MODEL_PORT": str(free_port()),
        "MODEL_METRICS_PORT": str(free_port()),
        "PROMETHEUS_MULTIPROC_DIR": str(directory / "metrics"),
        "MODEL_WORKERS": "2",
        # On a machine that is busy with other tests, a worker may be late without being overloaded.
        "MODEL_OVERLOAD_SECONDS": "60",
    } | settings
    host = f"[{given['MODEL_HOST']}]" if ":" in given["MODEL_HOST"] else given["MODEL_HOST"]
    return Model(
        Program([sys.executable, "entrypoint.py"], directory / "model.log", cwd=SERVICE, env=given),
        f"http://{host}:{given['MODEL_PORT']}",
        f"http://{host}:{given['MODEL_METRICS_PORT']}/metrics",
        Path(given["PROMETHEUS_MULTIPROC_DIR"]),
        int(given["MODEL_WORKERS"]),
    )


@contextmanager
def running_model(bundle: Path, directory: Path, **settings: str) -> Iterator[Model]:
    """Run the service, with every worker ready, while the block runs."""
    model = start_model(bundle, directory, **settings)
    with running(model.program):
        model.wait_until_ready()
        yield model


def parse(text: str) -> Samples:
    """Return the samples of a text exposition, which must not contain a series twice."""
    samples: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in samples, f"{key} comes twice"
            samples[key] = sample.value
    return samples


def select(samples: Samples, name: str, **labels: str) -> dict[frozenset[tuple[str, str]], float]:
    """Return the samples `name` with these labels, by all their labels."""
    return {
        key[1]: value
        for key, value in samples.items()
        if key[0] == name and key[1] >= frozenset(labels.items())
    }


def total(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of the samples `name` with these labels, of which there must be one."""
    found = select(samples, name, **labels)
    assert found, f"no series {name}{labels}"
    return sum(found.values())


def by_label(samples: Samples, name: str, label: str, **labels: str) -> Mapping[str, float]:
    """Return the samples `name` with these labels, by the value of another label."""
    return {dict(key)[label]: value for key, value in select(samples, name, **labels).items()}
