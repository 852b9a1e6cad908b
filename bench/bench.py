"""What every group measures with: cores, rounds, rows, and the bundles."""

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bench.machine import Cores, cores
from bench.rows import read_rows
from bench.servers import Row, Running, Server, running
from bench.wrk import Request
from bundle.manifest import HELD_OUT_FILE, MANIFEST_FILE, TREES_FILE
from tools import ROOT

# What the benchmark keeps from run to run: the peers' environments, and logs.
VAR = ROOT / "var" / "bench"
ROWS = 64


@dataclass(frozen=True)
class Bench:
    """One run: which cores, how many rounds of how many seconds, and where its files lie."""

    cores: Cores
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
        """The same without its compiled form."""
        return self.directory / "plain"

    @contextmanager
    def running(
        self, server: Server, on: set[int] | None = None, row: Row | None = None
    ) -> Iterator[Running]:
        """Start a server, on its core unless told otherwise; stop it at the end of the block."""
        log = VAR / "log" / f"{server.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with running(server, on or {self.cores.server}, log, row or self.rows[0]) as started:
            yield started

    def request(self, server: Server) -> Request:
        """Return the request of one row, another one each time."""
        return server.request(self.rows)


@contextmanager
def prepared(rounds: int, seconds: int) -> Iterator[Bench]:
    """Train the example for one run."""
    from example import train  # noqa: PLC0415 pandas, for those who need it

    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 the tmpfs
    with tempfile.TemporaryDirectory(prefix="bench-", dir=memory) as directory:
        unfilled = Bench(cores(), rounds, seconds, Path(directory), rows=())
        manifest = train(unfilled.bundle)
        rows = tuple(read_rows(unfilled.bundle / HELD_OUT_FILE, manifest)[:ROWS])
        bench = replace(unfilled, rows=rows)
        _without_trees(bench.bundle, bench.plain_bundle)
        yield bench


def _without_trees(compiled: Path, plain: Path) -> None:
    """Copy a bundle, all but its compiled form."""
    shutil.copytree(compiled, plain)
    manifest = json.loads((plain / MANIFEST_FILE).read_text("utf-8"))
    del manifest["files"][TREES_FILE]
    (plain / MANIFEST_FILE).write_text(json.dumps(manifest), "utf-8")
