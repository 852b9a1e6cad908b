"""The real publisher as a process, Fiddlers to send to, and a spool that waits for it."""

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
from bench.servers import Row
from bundle.manifest import Manifest
from serving.events import Label, Prediction
from serving.prediction_id import Signer
from serving.spool import Limits, Outcome, Spool
from tools import ROOT
from tools.fiddler_stand_in import publisher_settings
from tools.stack.ports import free_port

# As many as a busy worker writes together; half of them get their label.
_TOGETHER = 16
_LIMITS = Limits(max_bytes=2 * 10**9, segment_bytes=16 * 10**6, segment_seconds=3600.0)
_PATIENCE = 120.0
_POLL = 0.01


def require_client() -> None:
    """Raise BenchError where Fiddler's client is missing."""
    if find_spec("fiddler") is None:
        raise BenchError("fiddler-client is not installed: run ./task deps:publisher")


class Publisher:
    """The real publisher, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics_url: str, log: Path) -> None:
        self._process = process
        self._metrics_url = metrics_url
        self._log = log
        self.pid = process.pid

    def total(self, name: str) -> float:
        """Return the sum of a metric's series. Raises OSError."""
        return sum_of(self._metrics_url, name)

    def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until something is so; an OSError says that it is not yet. Raises BenchError."""
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if check():
                    return
            except OSError:
                pass
            time.sleep(_POLL)
        last = self._log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
        raise BenchError(f"the publisher, before {what}: {last[0]}")

    def sleep(self) -> None:
        """Stop it; its pauses run on meanwhile."""
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run while the block does."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.sleep()


@contextmanager
def publishing(bench: Bench, spool: Path, url: str, **settings: str) -> Iterator[Publisher]:
    """Run a publisher with the settings it comes with, on the core of the services."""
    port = free_port()
    given = publisher_settings(url, spool, port)
    log = VAR / "log" / "publisher.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, pinned({bench.cores.server}):
        process = subprocess.Popen(
            [sys.executable, "-m", "publisher"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT / "services" / "publisher",
            env=_environment() | given | settings,
        )
    try:
        yield Publisher(process, f"http://127.0.0.1:{port}/metrics", log)
    finally:
        # What it has not noted, it would only send again; and a stopped one would not hear a word.
        process.kill()
        process.wait()


@contextmanager
def refusing() -> Iterator[str]:
    """Return the address of a Fiddler that refuses connections; nobody else can listen there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def fill(directory: Path, manifest: Manifest, rows: Sequence[Row], predictions: int) -> None:
    """Spool predictions as a worker does, and behind each two of them a label. Raises BenchError.

    Labels lie between predictions, so that the publisher has to look through all of it twice.
    """
    directory.mkdir()
    signer = Signer([b"k" * 32], manifest.name, manifest.version)
    counts: Counter[Outcome] = Counter()
    spool = Spool(directory, manifest, _LIMITS, lambda what, events: counts.update({what: events}))
    now = time.time()
    values = islice(cycle([*row.values()] for row in rows), predictions)
    events = [Prediction(signer.sign(5.5, now), now, each, 5.5) for each in values]
    for start in range(0, predictions, _TOGETHER):
        batch = events[start : start + _TOGETHER]
        spool.append(batch)
        spool.append([Label(each.prediction_id, now, manifest.version, 6.0) for each in batch[::2]])
    spool.close()
    if counts["failed"] or counts["dropped"]:
        raise BenchError(f"a spool in {directory.parent} could not be filled")


def sum_of(page: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's series that have these labels. Raises OSError."""
    with urlopen(page, timeout=10) as answer:  # noqa: S310 of 127.0.0.1
        samples = parse(answer.read().decode())
    return sum(
        value
        for (found, having), value in samples.items()
        if found == name and labels.items() <= dict(having).items()
    )


def _environment() -> dict[str, str]:
    """Return this process's environment without the settings of any service."""
    foreign = ("MODEL_", "PROMETHEUS_", "FIDDLER_", "PUBLISHER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
