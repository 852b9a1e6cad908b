"""The publisher as tests start it, and writers that spool like the model's workers."""

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.machine import free_port
from tests.support.model import Samples, parse, total
from tests.support.processes import Program
from tools import ROOT
from tools.fiddler_stand_in import publisher_settings

SERVICE = ROOT / "services" / "publisher"


class PublisherProgram:
    """A publisher on its own port, with short pauses."""

    def __init__(self, spool: Path, url: str, log: Path, **settings: str) -> None:
        port = free_port()
        self._spool = spool
        given = {
            **publisher_settings(url, spool, port),
            "PUBLISHER_POLL_SECONDS": "0.02",
            "PUBLISHER_LABEL_DELAY_SECONDS": "0",
            "PUBLISHER_BACKOFF_SECONDS": "0.01",
            "PUBLISHER_BACKOFF_MAX_SECONDS": "0.02",
            "FIDDLER_TIMEOUT": "1",
        } | settings
        self.program = Program([sys.executable, "-m", "publisher"], log, cwd=SERVICE, env=given)
        self._url = f"http://127.0.0.1:{port}/metrics"

    def scrape(self) -> Samples:
        """Return every sample of one scrape."""
        return parse(httpx.get(self._url).raise_for_status().text)

    def until(self, what: str, name: str, at_least: float = 1.0, **labels: str) -> None:
        """Wait until a metric has reached a value."""
        self.program.until(lambda: total(self.scrape(), name, **labels) >= at_least, what)

    def until_idle(self) -> None:
        """Wait until everything in the spool has been published, and its closed segments are gone.

        Whoever writes to it must have ended.
        """
        self.program.until(
            lambda: self.idle() and not [*self._spool.glob("*.jsonl")], "nothing waits"
        )

    def idle(self) -> bool:
        """Tell whether everything in the spool has been published."""
        return total(self.scrape(), "publisher_backlog_events") == 0


@contextmanager
def publishing(spool: Path, url: str, log: Path, **settings: str) -> Iterator[PublisherProgram]:
    """Run a publisher for the length of the block."""
    publisher = PublisherProgram(spool, url, log, **settings)
    try:
        yield publisher
    finally:
        publisher.program.kill()


def require_client() -> None:
    """Skip the test where Fiddler's client is not installed; with REQUIRE_ALL=1 it fails."""
    if importlib.util.find_spec("fiddler") is None:
        refuse = pytest.fail if os.environ.get("REQUIRE_ALL") == "1" else pytest.skip
        refuse("fiddler-client is not installed (group publisher)")


def start_writer(spool: Path, name: str, directory: Path, batches: int = 300) -> Program:
    """Start a program that spools predictions and labels as a worker does."""
    words = ["tests.support.spool", spool, name, batches, directory / "ids"]
    return Program(
        [sys.executable, "-m", *map(str, words)],
        directory / f"{name}.log",
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'services' / 'model'}"},
    )


def accepted(directory: Path) -> tuple[set[str], set[str]]:
    """Return the ids of predictions and of labels that writers said to be accepted."""
    found: dict[str, set[str]] = {"p": set(), "l": set()}
    for log in directory.glob("writer*.log"):
        # Killed in mid-word, a writer has not said it.
        for line in log.read_text().rpartition("\n")[0].splitlines():
            kind, _, key = line.partition(" ")
            found[kind].add(key)
    return found["p"], found["l"]
