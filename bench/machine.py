"""The machine on which the benchmark runs: its cores, its load and its processes."""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


class BenchError(Exception):
    """Something cannot be measured; the message is one line that says why."""


@dataclass(frozen=True)
class Cores:
    """One core for the server and one for the load generator."""

    server: int
    loader: int

    @property
    def both(self) -> set[int]:
        """Both cores."""
        return {self.server, self.loader}


def cores() -> Cores:
    """Return two cores that this process may use. Raises BenchError."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:  # noqa: PLR2004
        raise BenchError("two cores are needed: one for the server, one for the load generator")
    return Cores(*usable[:2])


def require_wrk() -> None:
    """Raise BenchError if wrk is not installed."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not on PATH: install it (Debian: apt install wrk)")


@contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Pin this process, and processes that it starts in the block, to some cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, to)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def describe() -> str:
    """Return processor, operating system and date in one line."""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    return f"{today}, {_processor()}, {os.cpu_count()} cores, {platform.system()}"


def load() -> float:
    """Return the load average of the last minute."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def proportional_set_size(pid: int) -> int:
    """Return a process's proportional set size in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"the kernel does not report the memory of process {pid}")


def children(pid: int) -> list[int]:
    """Return the pids of a process's running children."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def processor_seconds(pid: int) -> float:
    """Return a process's processor time in seconds, with a resolution of 10 ms."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
