"""What processes use, as the kernel says it, by names that do not change with their pids."""

import os
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from serving.metrics import processes
from serving.metrics.processes import PROC, ProcessCollector, read_proportional, read_usage
from tests.support.model import Samples, parse, select

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
CPU = "service_process_cpu_seconds_total"


def write_process(
    proc: Path, pid: int, *, started: int = 5, ticks: int = 300, size: int = 12
) -> Path:
    """Write the files of a process whose command is hard to parse."""
    directory = proc / str(pid)
    (directory / "fd").mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (directory / "fd" / str(number)).touch()
    after = [*"SABCDEFGHIJ", ticks - 100, 100, 0, 0, 20, 0, 4, 0, started, 9_999, 7, 0]
    (directory / "stat").write_text(f"{pid} (a) b ( c) {' '.join(map(str, after))}\n")
    (directory / "smaps_rollup").write_text(f"5-7 ---p 0 0 [rollup]\nRss: 28 kB\nPss:  {size} kB\n")
    return directory


def scrape(collector: ProcessCollector) -> Samples:
    """Return what a collector exports."""
    registry = CollectorRegistry()
    registry.register(collector)
    return parse(generate_latest(registry).decode())


def value(page: Samples, name: str, process: str) -> float | None:
    """Return the value of a sample, None if it is not there."""
    return page.get((name, frozenset({("process", process)})))


def test_every_figure_is_exported_by_process(tmp_path: Path) -> None:
    """CPU seconds, both sizes of memory in bytes, and the number of descriptors."""
    write_process(tmp_path, 7)
    page = scrape(ProcessCollector(lambda: {"master": 7}, tmp_path))

    assert page == {
        (f"service_process_{name}", frozenset({("process", "master")})): figure
        for name, figure in {
            "cpu_seconds_total": 300 / TICKS,
            "resident_memory_bytes": 7 * PAGE,
            "proportional_memory_bytes": 12 * 1024,
            "open_fds": 3,
        }.items()
    }


def test_a_successor_continues_the_counter_of_its_predecessor(tmp_path: Path) -> None:
    """Even one with the same pid; so the counter never falls, and no series is added."""
    pids = {"worker-0": 7}
    collector = ProcessCollector(lambda: pids, tmp_path)
    seen = []
    for pid, started, ticks in ((7, 1, 200), (7, 1, 300), (8, 2, 500), (8, 3, 100), (8, 3, 150)):
        pids["worker-0"] = pid
        write_process(tmp_path, pid, started=started, ticks=ticks)
        page = scrape(collector)
        assert {labels for _, labels in page} == {frozenset({("process", "worker-0")})}
        seen.append(value(page, CPU, "worker-0"))

    assert seen == [ticks / TICKS for ticks in (200, 300, 800, 900, 950)]


def test_a_name_that_is_used_again_continues_its_counter(tmp_path: Path) -> None:
    """A reload gives the new workers other names; the one after it gives the first ones again."""
    pids = {"worker-0": 7}
    collector = ProcessCollector(lambda: pids, tmp_path)
    write_process(tmp_path, 7)
    scrape(collector)
    pids.clear()
    assert scrape(collector) == {}

    pids["worker-0"] = 9
    write_process(tmp_path, 9)
    assert value(scrape(collector), CPU, "worker-0") == 600 / TICKS


def test_each_scrape_reads_the_proportional_size_of_one_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All in turn, a new one first: reading it costs more than all else together."""
    monkeypatch.setattr(processes, "_PAUSE_SECONDS", 0.0)
    pids = {"master": 7, "worker-0": 8}
    collector = ProcessCollector(lambda: pids, tmp_path)
    seen: list[dict[str, float]] = []
    for size in (10, 20, 30, 40, 50):
        if size == 40:
            pids["worker-1"] = 9
        for pid in pids.values():
            write_process(tmp_path, pid, size=size)
        found = select(scrape(collector), "service_process_proportional_memory_bytes")
        seen.append({dict(labels)["process"]: size_ / 1024 for labels, size_ in found.items()})

    assert seen == [
        {"master": 10},
        {"master": 10, "worker-0": 20},
        {"master": 30, "worker-0": 20},
        {"master": 30, "worker-0": 20, "worker-1": 40},
        {"master": 30, "worker-0": 50, "worker-1": 40},
    ]


def test_frequent_scrapes_read_no_proportional_size(tmp_path: Path) -> None:
    """The second of two scrapes has the size that the first one found."""
    collector = ProcessCollector(lambda: {"master": 7}, tmp_path)
    for size in (10, 20):
        write_process(tmp_path, 7, size=size)
        page = scrape(collector)

        assert value(page, "service_process_proportional_memory_bytes", "master") == 10 * 1024


def test_a_process_that_ended_is_left_out(tmp_path: Path) -> None:
    """The others are exported: a worker may end during any scrape."""
    write_process(tmp_path, 7)
    page = scrape(ProcessCollector(lambda: {"worker-0": 6, "worker-1": 7}, tmp_path))

    assert {labels for _, labels in page} == {frozenset({("process", "worker-1")})}


@pytest.mark.parametrize(
    ("missing", "family"),
    [("smaps_rollup", "proportional_memory_bytes"), ("fd", "open_fds")],
)
def test_a_figure_that_the_kernel_does_not_tell_is_left_out(
    tmp_path: Path, missing: str, family: str
) -> None:
    """An old kernel or a sandbox lacks smaps_rollup; the other figures are there."""
    directory = write_process(tmp_path, 7)
    (directory / missing).rename(tmp_path / "elsewhere")
    page = scrape(ProcessCollector(lambda: {"master": 7}, tmp_path))

    assert len(page) == 3
    assert value(page, f"service_process_{family}", "master") is None


def test_without_proc_nothing_is_exported(tmp_path: Path) -> None:
    """On macOS there is none."""
    assert scrape(ProcessCollector(lambda: {"master": 7}, tmp_path / "none")) == {}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has this /proc")
def test_the_figures_of_this_process_are_those_of_the_kernel() -> None:
    """The fields of the real files are the right ones."""
    usage = read_usage(os.getpid())
    times = os.times()

    assert usage is not None
    assert usage.cpu == pytest.approx(times.user + times.system, abs=0.5)
    pages = int((PROC / "self" / "statm").read_text().split()[1])
    assert usage.resident == pytest.approx(pages * PAGE, rel=0.1)
    proportional = read_proportional(os.getpid())
    assert proportional is None or 0 < proportional <= 1.1 * usage.resident
    # The listing itself has one open.
    assert usage.descriptors == pytest.approx(len([*Path("/proc/self/fd").iterdir()]), abs=2)
