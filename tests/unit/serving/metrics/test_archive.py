"""Files of dead workers are merged into one per type without losing or doubling a count."""

import os
import threading
import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

from serving.metrics.archive import archive_dead_workers, files_lock
from serving.metrics.exposition import Exposition
from serving.metrics.slots import Layout
from tests.support.bundles import read_metrics
from tests.support.model import Samples, parse

RANDOM = np.random.default_rng(3)
TYPES = ("counter", "histogram", "summary")


def write(directory: Path, pid: int, extra: str = "") -> None:
    """Write a worker's files with random counts; `extra` is a series that only this worker has."""
    counters, histograms = Layout("counter"), Layout("histogram")
    summaries, gauges = Layout("summary"), Layout("gauge_livesum")
    for status in ("2xx", "4xx", *filter(None, [extra])):
        labels = {"handler": "/", "status": status}
        counters.counter("requests", "Requests.", labels)
        histograms.histogram("seconds", "Seconds \\ of\nrequests.", labels, (0.1, 0.25, 1.0))
        summaries.summary("bytes", "Bytes.", labels)
    gauges.gauge("inprogress", "In progress.", {"handler": 'a "b"\\\nσ'})
    for layout in (counters, histograms, summaries, gauges):
        # Elsewhere first: in a container this process may have the pid of a worker.
        with TemporaryDirectory(dir=directory.parent) as elsewhere:
            slots = layout.create(Path(elsewhere), "test")
            # Counts and fractions whose sums are exact in any order.
            slots.add(slice(0, len(layout.keys)), RANDOM.integers(0, 1000, len(layout.keys)) / 8)
            own = Path(elsewhere) / f"{layout.type}_test_{os.getpid()}.db"
            own.rename(directory / f"{layout.type}_test_{pid}.db")


def page(directory: Path) -> Samples:
    """Return the samples that the metrics server exports for a directory."""
    return parse(Exposition(directory).text())


def without_gauges(samples: Samples) -> Samples:
    """Return counters, histograms and summaries."""
    return {key: value for key, value in samples.items() if key[0] != "inprogress"}


@pytest.fixture(name="workers")
def _workers(tmp_path: Path) -> Path:
    """Return a directory with the files of workers 1 to 4."""
    for pid in (1, 2, 3, 4):
        write(tmp_path, pid)
    return tmp_path


def test_totals_do_not_change_when_workers_die(workers: Path) -> None:
    """Counters, histograms and summaries are kept until the last worker is dead."""
    before = page(workers)
    for alive in ({1, 2, 3}, {1, 2}, {2}, set[int]()):
        archive_dead_workers(workers, alive)

        assert without_gauges(before) == without_gauges(page(workers))


def test_gauges_of_dead_workers_are_removed(workers: Path) -> None:
    """Requests that a dead worker had in progress no longer count."""
    archive_dead_workers(workers, {1, 2})
    inprogress = page(workers)
    (workers / "gauge_livesum_test_1.db").unlink()
    (workers / "gauge_livesum_test_2.db").unlink()

    alone = page(workers)
    assert "inprogress" in {name for name, _ in inprogress}
    assert "inprogress" not in {name for name, _ in alone}
    assert not list(workers.glob("gauge_livesum_test_[34].db"))


def test_dead_workers_have_one_file_per_type(workers: Path) -> None:
    """The number of files does not depend on the number of dead workers."""
    for pid in range(10, 60):
        write(workers, pid)
        archive_dead_workers(workers, {1, 2, 3, 4})

    assert {f"{each}_archive.db" for each in TYPES} == {
        path.name for path in workers.iterdir() if "_test_" not in path.name
    }
    assert len(list(workers.iterdir())) == 4 * 4 + 3


def test_files_of_live_workers_are_unchanged(workers: Path) -> None:
    """They are mapped by their workers, which would continue to count in a replaced file."""
    inodes = {path: path.stat().st_ino for path in workers.iterdir()}
    archive_dead_workers(workers, {1, 2, 3, 4})

    assert inodes == {path: path.stat().st_ino for path in workers.iterdir()}


def test_a_pid_can_be_reused(workers: Path) -> None:
    """A new worker with the pid of a dead one starts at 0, and its counts are added."""
    archive_dead_workers(workers, {1, 2, 3})
    write(workers, 4)
    before = page(workers)
    archive_dead_workers(workers, {1, 2, 3})

    assert without_gauges(before) == without_gauges(page(workers))


def test_series_of_only_one_worker_are_kept(workers: Path) -> None:
    """Only the dead worker had a request with this status."""
    write(workers, 5, extra="5xx")
    before = page(workers)
    archive_dead_workers(workers, {1, 2, 3, 4})

    assert without_gauges(before) == without_gauges(page(workers))
    assert any(dict(labels).get("status") == "5xx" for _, labels in page(workers))


def test_an_empty_file_is_ignored(workers: Path) -> None:
    """A worker that is killed at its start leaves an empty file, or one full of zeros."""
    (workers / "counter_test_8.db").touch()
    (workers / "counter_test_9.db").write_bytes(bytes(1 << 16))
    before = page(workers)
    archive_dead_workers(workers, set())

    assert without_gauges(before) == without_gauges(page(workers))


@pytest.mark.parametrize("type_", TYPES)
def test_a_full_disk_doubles_no_count(workers: Path, type_: str) -> None:
    """If one type's archive cannot be written, the others are complete, and a retry succeeds."""
    before = page(workers)
    obstacle = workers / f"{type_}_archive.new"
    obstacle.mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        archive_dead_workers(workers, {1, 2})

    assert without_gauges(before) == without_gauges(page(workers))

    obstacle.rmdir()
    archive_dead_workers(workers, {1, 2})
    assert without_gauges(before) == without_gauges(page(workers))


def test_the_page_equals_prometheus_clients(workers: Path) -> None:
    """Series and values are equal before and after archiving, and as workers come and go."""
    exposition = Exposition(workers)
    for pid, alive in ((5, {1, 2, 3, 4, 5}), (6, {1, 5, 6}), (1, {1, 6}), (7, {7})):
        write(workers, pid, extra=f"{pid}xx")
        assert read_metrics(workers) == parse(exposition.text())

        archive_dead_workers(workers, alive)
        assert read_metrics(workers) == parse(exposition.text())


def test_memory_does_not_grow_with_dead_workers(tmp_path: Path) -> None:
    """The master forgets the files of workers that no longer exist."""

    def after(deaths: range) -> int:
        for pid in deaths:
            write(tmp_path, pid)
            exposition.text()
            archive_dead_workers(tmp_path, set())
        # Only memory of the service, because threads of other tests allocate meanwhile.
        ours = tracemalloc.take_snapshot().filter_traces(
            [tracemalloc.Filter(inclusive=True, filename_pattern="*/serving/*")]
        )
        return sum(trace.size for trace in ours.traces)

    exposition = Exposition(tmp_path)
    tracemalloc.start()
    try:
        after(range(1, 20))
        some, many = after(range(20, 40)), after(range(40, 240))
    finally:
        tracemalloc.stop()

    assert many - some < 200 * 100


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """Lines are prepared once, numbers are read at each scrape, and later families are added."""
    exposition = Exposition(tmp_path)
    assert exposition.text() == ""

    layout = Layout("counter")
    slot = layout.counter("things", "Things.", {})
    slots = layout.create(tmp_path, "test")
    assert (
        exposition.text()
        == "# HELP things_total Things.\n# TYPE things_total counter\nthings_total 0.0\n"
    )

    slots.increment(slot, 2)
    assert exposition.text().endswith("\nthings_total 2.0\n")


def test_a_scrape_during_archiving_is_consistent(workers: Path) -> None:
    """A scrape between two steps of archiving sees no count missing or doubled."""
    before = without_gauges(page(workers))
    exposition = Exposition(workers)
    pages: list[Samples] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set() or not pages:
            with files_lock:
                text = exposition.text()
            pages.append(without_gauges(parse(text)))

    thread = threading.Thread(target=scrape)
    thread.start()
    for alive in ({1, 2, 3}, {1, 2}, {1}, set[int]()):
        archive_dead_workers(workers, alive)
    done.set()
    thread.join()

    assert all(each == before for each in pages)
