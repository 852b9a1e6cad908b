"""Starts publishers, and writers that spool like the model's workers."""

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from tests.support.machine import free_port, report_missing
from tests.support.model import Samples, parse, total
from tests.support.processes import Program
from tools import ROOT
from tools.fiddler_stand_in import publisher_settings

SERVICE = ROOT / "services" / "publisher"


class PublisherProgram:
    """A publisher process with short pauses, on a free port unless given one."""

    def __init__(self, spool: Path, url: str, log: Path, **settings: str) -> None:
        port = int(settings.get("PUBLISHER_METRICS_PORT") or free_port())
        self._spool = spool
        environment = {
            **publisher_settings(url, spool, port),
            "PUBLISHER_POLL_SECONDS": "0.02",
            "PUBLISHER_LABEL_DELAY_SECONDS": "0",
            "PUBLISHER_BACKOFF_SECONDS": "0.01",
            "PUBLISHER_BACKOFF_MAX_SECONDS": "0.02",
            "FIDDLER_TIMEOUT": "1",
        } | settings
        self.program = Program(
            [sys.executable, "-m", "publisher"], log, cwd=SERVICE, env=environment
        )
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"

    def scrape(self) -> Samples:
        """Return the samples of one scrape."""
        return parse(httpx.get(self.metrics_url).raise_for_status().text)

    def until(self, what: str, name: str, at_least: float = 1.0, **labels: str) -> None:
        """Wait until the sum of a metric's series has reached a value."""
        self.program.until(lambda: total(self.scrape(), name, **labels) >= at_least, what)

    def until_idle(self) -> None:
        """Wait until all events have been published and all segments have been removed.

        The writers of the spool must have ended.
        """
        self.program.until(
            lambda: self.idle() and not [*self._spool.glob("*.jsonl")], "the spool is empty"
        )

    def idle(self) -> bool:
        """Return whether every event in the spool has been published."""
        return total(self.scrape(), "publisher_backlog_events") == 0


@contextmanager
def publishing(spool: Path, url: str, log: Path, **settings: str) -> Iterator[PublisherProgram]:
    """Run a publisher while the block runs."""
    publisher = PublisherProgram(spool, url, log, **settings)
    try:
        yield publisher
    finally:
        publisher.program.kill()


def make_spools(directory: Path, replicas: int) -> list[Path]:
    """Create the spools of some replicas."""
    spools = [directory / f"spool{number}" for number in range(replicas)]
    for spool in spools:
        spool.mkdir()
    return spools


@contextmanager
def publishing_all(
    spools: list[Path], url: str, directory: Path, name: str, **settings: str
) -> Iterator[list[PublisherProgram]]:
    """Run a publisher per spool while the block runs; several know each other."""
    ports = [str(free_port()) for _ in spools]
    peers = ",".join(f"127.0.0.1:{port}" for port in ports) if len(spools) > 1 else ""
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                publishing(
                    spool,
                    url,
                    directory / f"{name}{port}.log",
                    PUBLISHER_METRICS_PORT=port,
                    PUBLISHER_PEERS=peers,
                    **settings,
                )
            )
            for spool, port in zip(spools, ports, strict=True)
        ]


def require_client() -> None:
    """Skip the test if Fiddler's client is not installed; fail it if REQUIRE_ALL=1."""
    if importlib.util.find_spec("fiddler") is None:
        report_missing("fiddler-client is not installed (group publisher)")


def start_writer(spool: Path, name: str, directory: Path, batches: int = 300) -> Program:
    """Start a program that spools predictions and labels as a worker does."""
    arguments = ["tests.support.spool", spool, name, batches, directory / "ids"]
    return Program(
        [sys.executable, "-m", *map(str, arguments)],
        directory / f"{name}.log",
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{ROOT / 'services' / 'model'}"},
    )


def accepted(directory: Path) -> tuple[set[str], set[str]]:
    """Return the ids of the predictions and of the labels that the writers have spooled."""
    found: dict[str, set[str]] = {"p": set(), "l": set()}
    for log in directory.glob("writer*.log"):
        # The last line of a killed writer may be incomplete.
        for line in filter(None, log.read_text().rpartition("\n")[0].splitlines()):
            kind, _, key = line.partition(" ")
            if kind in found:  # otherwise the writer has reported a full disk
                found[kind].add(key)
    return found["p"], found["l"]
