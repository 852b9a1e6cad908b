"""What the service's processes use: CPU, memory and descriptors, read from /proc at each scrape.

Why it exists: in multiprocess mode prometheus_client exports nothing of the kind, and its
ProcessCollector knows one process. The master reads for all, so no worker does anything for it.

A worker is named after its entry in the connection counts, not its pid: its successor gets a free
entry, so there are never more series than for two generations of workers. A counter of CPU time
continues where the predecessor's stood at the last scrape.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PROC = Path("/proc")
# The position of fields in /proc/pid/stat, counted from the one after the command (proc(5)).
_USER_TIME, _SYSTEM_TIME, _START_TIME, _RESIDENT = 11, 12, 19, 21
_KIB = 1024
_MAX_STAT_BYTES = 4096
_TICKS_PER_SECOND, _PAGE_BYTES = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
# Between two processes whose proportional size is read. The kernel looks at each page for it, 30 ms
# for a GB: of all processes at once, or for each of many scrapers, predictions would feel it.
_PAUSE_SECONDS = 10.0


class Process(NamedTuple):
    """One process, distinguished by its start (clock ticks since boot) from others of its pid."""

    pid: int
    started: int


class Usage(NamedTuple):
    """What a process uses: seconds of CPU and bytes; None is what the kernel does not tell."""

    process: Process
    cpu: float
    resident: int
    descriptors: int | None


def read_usage(pid: int, proc: Path = PROC) -> Usage | None:
    """Return what a process uses, None if it is gone."""
    directory = f"{proc}/{pid}"
    try:
        # Path's methods would double the time that this takes; latin-1 decodes any byte.
        descriptor = os.open(f"{directory}/stat", os.O_RDONLY)
    except OSError:
        return None
    try:
        stat = os.read(descriptor, _MAX_STAT_BYTES).decode("latin-1")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    # The command, in parentheses, may contain anything.
    fields = stat.rpartition(")")[2].split()
    ticks = int(fields[_USER_TIME]) + int(fields[_SYSTEM_TIME])
    return Usage(
        process=Process(pid, int(fields[_START_TIME])),
        cpu=ticks / _TICKS_PER_SECOND,
        resident=int(fields[_RESIDENT]) * _PAGE_BYTES,
        descriptors=_descriptors(f"{directory}/fd"),
    )


def _descriptors(directory: str) -> int | None:
    try:
        return len(os.listdir(directory))  # noqa: PTH208 as above
    except OSError:
        return None


def read_proportional(pid: int, proc: Path = PROC) -> int | None:
    """Return the proportional set size in bytes; old kernels and sandboxes have none."""
    try:
        lines = (proc / str(pid) / "smaps_rollup").read_text().splitlines()
    except OSError:
        return None
    sizes = (line.split()[1] for line in lines if line.startswith("Pss:"))
    return next((int(size) * _KIB for size in sizes), None)


class _Cpu(NamedTuple):
    """The CPU seconds of a process at its last scrape, and those of its predecessors."""

    process: Process
    before: float
    seconds: float


class ProcessCollector(Collector):
    """Exports the usage of processes, which `pids` returns by name. Not thread-safe."""

    def __init__(self, pids: Callable[[], Mapping[str, int]], proc: Path = PROC) -> None:
        self._pids = pids
        self._proc = proc
        self._cpu: dict[str, _Cpu] = {}
        # The one that was read longest ago is first.
        self._proportional: dict[Process, int | None] = {}
        self._pause_until = 0.0

    def collect(self) -> Iterable[Metric]:
        """Return the families; without /proc, as on macOS, there are none."""
        cpu = CounterMetricFamily(
            "service_process_cpu_seconds",
            "CPU time of a process and of those that had its name before, in seconds.",
            labels=("process",),
        )
        resident = _gauge("resident_memory_bytes", "Memory in RAM, shared pages in full.")
        proportional = _gauge(
            "proportional_memory_bytes",
            "Memory in RAM, each shared page divided by the processes that share it.",
        )
        descriptors = _gauge("open_fds", "Open file descriptors.")
        usages = self._read()
        self._read_proportional([usage.process for usage in usages.values()])
        for name, usage in usages.items():
            cpu.add_metric((name,), self._total(name, usage))
            _add(resident, name, usage.resident)
            _add(proportional, name, self._proportional.get(usage.process))
            _add(descriptors, name, usage.descriptors)
        families: tuple[Metric, ...] = (cpu, resident, proportional, descriptors)
        return [family for family in families if family.samples]

    def _read(self) -> dict[str, Usage]:
        found = {name: read_usage(pid, self._proc) for name, pid in self._pids().items()}
        return {name: usage for name, usage in found.items() if usage}

    def _total(self, name: str, usage: Usage) -> float:
        """Return the CPU seconds of a process and of those that had its name before."""
        last = self._cpu.get(name, _Cpu(usage.process, 0.0, 0.0))
        is_same = last.process == usage.process
        before = last.before if is_same else last.before + last.seconds
        self._cpu[name] = _Cpu(usage.process, before, usage.cpu)
        return before + usage.cpu

    def _read_proportional(self, alive: Sequence[Process]) -> None:
        """Read the size of one process: a new one, or else the one that was read longest ago."""
        known = {each: size for each, size in self._proportional.items() if each in alive}
        self._proportional = known
        due = [each for each in alive if each not in known] or [*known]
        if due and time.monotonic() >= self._pause_until:
            known.pop(due[0], None)
            known[due[0]] = read_proportional(due[0].pid, self._proc)
            self._pause_until = time.monotonic() + _PAUSE_SECONDS


def _gauge(name: str, help_text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"service_process_{name}", help_text, labels=("process",))


def _add(family: GaugeMetricFamily, name: str, value: int | None) -> None:
    if value is not None:
        family.add_metric((name,), value)
