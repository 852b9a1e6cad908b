"""The publisher as a process, and spools filled for it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from urllib.request import urlopen

from bench.bench import VAR, Bench
from bench.machine import BenchError, pinned
from bench.reference import parse
from bench.servers import Row, last_line
from bundle.manifest import Manifest
from serving.events import Label, Prediction
from serving.prediction_id import Signer
from serving.spool import Spool
from serving.spool_room import Limits, Outcome
from tools import ROOT
from tools.fiddler_stand_in import publisher_settings

# Predictions that a busy worker spools in one write; every other one gets a label.
_BATCH = 16
_LIMITS = Limits(max_bytes=2 * 10**9, segment_bytes=16 * 10**6, segment_seconds=3600.0)
_TIMEOUT_SECONDS = 120.0
_POLL = 0.01


def require_client() -> None:
    """Raise BenchError if Fiddler's client is not installed."""
    if find_spec("fiddler") is None:
        raise BenchError("fiddler-client is not installed: run ./task deps:publisher")


class Publisher:
    """A publisher process."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics_url: str, log: Path) -> None:
        self._process = process
        self._metrics_url = metrics_url
        self._log = log
        self.pid = process.pid

    def total(self, name: str) -> float:
        """Return the sum of a metric's series. Raises OSError if it cannot be scraped."""
        return sum_of(self._metrics_url, name)

    def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until `check` is true; an OSError counts as false. Raises BenchError."""
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if check():
                    return
            except OSError:
                pass
            time.sleep(_POLL)
        raise BenchError(f"the publisher failed before {what}: {last_line(self._log)}")

    def suspend(self) -> None:
        """Suspend the process; the time of its pauses passes meanwhile."""
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def resumed(self) -> Iterator[None]:
        """Let the process run while the block runs."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.suspend()


@contextmanager
def publishing(bench: Bench, spool: Path, url: str, **settings: str) -> Iterator[Publisher]:
    """Run a publisher with its default settings on the server's core."""
    port = bench.ports.reserve()
    defaults = publisher_settings(url, spool, port)
    log = VAR / "log" / "publisher.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, pinned({bench.cores.server}):
        process = subprocess.Popen(
            [sys.executable, "-m", "publisher"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT / "services" / "publisher",
            env=_environment() | defaults | settings,
        )
    try:
        yield Publisher(process, f"http://127.0.0.1:{port}/metrics", log)
    finally:
        # SIGKILL, since a suspended process does not handle SIGTERM. Nothing is lost.
        process.kill()
        process.wait()


@contextmanager
def unreachable_fiddler() -> Iterator[str]:
    """Return the URL of a Fiddler that refuses connections: a bound socket that never listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def fill(directory: Path, manifest: Manifest, rows: Sequence[Row], predictions: int) -> None:
    """Spool predictions as a worker does, and a label for every other one. Raises BenchError.

    Labels lie between predictions, so that both of the publisher's cursors read the whole spool.
    """
    directory.mkdir()
    signer = Signer([b"k" * 32], manifest.name, manifest.version)
    counts: Counter[Outcome] = Counter()
    spool = Spool(
        (directory,), manifest, _LIMITS, lambda what, events: counts.update({what: events})
    )
    now = time.time()
    values = islice(cycle([*row.values()] for row in rows), predictions)
    events = [Prediction(signer.sign(5.5, now), now, each, 5.5) for each in values]
    for start in range(0, predictions, _BATCH):
        batch = events[start : start + _BATCH]
        spool.append(batch)
        spool.append([Label(each.prediction_id, now, manifest.version, 6.0) for each in batch[::2]])
    spool.close()
    if counts["failed"] or counts["dropped"]:
        raise BenchError(f"could not fill a spool in {directory.parent}")


def sum_of(page: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's series with these labels. Raises OSError."""
    with urlopen(page, timeout=10) as answer:  # noqa: S310 of 127.0.0.1
        samples = parse(answer.read().decode())
    return sum(
        value
        for (series, series_labels), value in samples.items()
        if series == name and labels.items() <= dict(series_labels).items()
    )


def _environment() -> dict[str, str]:
    """Return this process's environment without the settings of any service."""
    foreign = ("MODEL_", "PROMETHEUS_", "FIDDLER_", "PUBLISHER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
