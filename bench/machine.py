"""The machine a figure was measured on, and which of its cores do what."""

import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


class BenchError(Exception):
    """The benchmark cannot run; the message is one line and says what is missing."""


@dataclass(frozen=True)
class Cores:
    """One core for whatever serves, another for whatever asks."""

    server: int
    loader: int

    @property
    def both(self) -> set[int]:
        """Both of them."""
        return {self.server, self.loader}


def cores() -> Cores:
    """Return two cores that this process may use. Raises BenchError."""
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:  # noqa: PLR2004
        raise BenchError("two cores are needed: one serves, the other one asks")
    return Cores(*usable[:2])


def require_wrk() -> None:
    """Raise BenchError where wrk is missing."""
    if shutil.which("wrk") is None:
        raise BenchError("wrk is not on PATH: install it (Debian: apt install wrk)")


@contextmanager
def pinned(to: set[int]) -> Iterator[None]:
    """Keep this process, and what it starts in the block, on some cores."""
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
    """Return how many processes wanted a core in the last minute, on average."""
    return os.getloadavg()[0]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def proportional_set_size(pid: int) -> int:
    """Return a process's memory in bytes, what it shares with others divided among them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise BenchError(f"the kernel does not tell the memory of process {pid}")


def children(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(child) for child in text.split()]


def processor_seconds(pid: int) -> float:
    """Return how long a process has had a core, in whole ticks of 10 ms."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
