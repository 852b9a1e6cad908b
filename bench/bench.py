"""What all groups share: cores, ports, rounds, rows and bundles."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.machine import Cores, cores
from bench.ports import Ports
from bench.rows import read_rows
from bench.servers import Row, Running, Server, running
from bench.wrk import Request
from bundle.manifest import HELD_OUT_FILE, MANIFEST_FILE, PROGRAM_FILE, TREES_FILE
from tools import ROOT

# Files kept between runs: the peers' environments, and logs.
VAR = ROOT / "var" / "bench"
ROWS = 64


@dataclass(frozen=True)
class Bench:
    """One run: its cores, ports, number of rounds, seconds per round, directory and rows."""

    cores: Cores
    ports: Ports
    rounds: int
    seconds: int
    directory: Path
    rows: tuple[Row, ...]

    @property
    def bundle(self) -> Path:
        """The example's bundle."""
        return self.directory / "example"

    @property
    def plain_bundle(self) -> Path:
        """The example's bundle without its compiled form."""
        return self.directory / "plain"

    @contextmanager
    def running(
        self, server: Server, on: set[int] | None = None, row: Row | None = None
    ) -> Iterator[Running]:
        """Run a server while the block runs, by default on the server's core."""
        log = VAR / "log" / f"{server.name.replace('/', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with running(server, on or {self.cores.server}, log, row or self.rows[0]) as started:
            yield started

    def request(self, server: Server) -> Request:
        """Return the request of a server, for each of the rows in turn."""
        return server.request(self.rows)


@contextmanager
def prepared(rounds: int, seconds: int) -> Iterator[Bench]:
    """Train the example's model for one run."""
    from example import train  # noqa: PLC0415 it imports pandas

    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 the tmpfs
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as directory, Ports() as ports:
        unfilled = Bench(cores(), ports, rounds, seconds, Path(directory), rows=())
        manifest = train(unfilled.bundle)
        rows = tuple(read_rows(unfilled.bundle / HELD_OUT_FILE, manifest)[:ROWS])
        bench = replace(unfilled, rows=rows)
        without_compiled(bench.bundle, bench.plain_bundle)
        yield bench


def without_compiled(compiled: Path, plain: Path) -> None:
    """Copy a bundle without its compiled form."""
    shutil.copytree(compiled, plain)
    manifest = json.loads((plain / MANIFEST_FILE).read_text("utf-8"))
    for name in (TREES_FILE, PROGRAM_FILE):
        manifest["files"].pop(name, None)
    (plain / MANIFEST_FILE).write_text(json.dumps(manifest), "utf-8")
