"""The metrics page equals the one that prometheus_client's collector writes."""

import os
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from serving.metrics.exposition import Exposition
from serving.metrics.slots import Layout, Slots
from tests.support.model import Samples, parse

HELP = "Rows\nof \\ all."


def _theirs(directory: Path) -> str:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return generate_latest(registry).decode()


def _assert_same(exposition: Exposition, directory: Path) -> Samples:
    ours, theirs = exposition.text(), _theirs(directory)
    assert parse(theirs) == parse(ours)
    comments = [
        sorted(line for line in page.splitlines() if "# " in line) for page in (ours, theirs)
    ]
    assert comments[1] == comments[0]
    return parse(ours)


def test_openmetrics_equals_the_librarys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers and samples equal those of prometheus_client's OpenMetrics exposition."""
    for pid in (11, 12):
        _process(tmp_path, pid, monkeypatch, step=1)
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(tmp_path))  # type: ignore[no-untyped-call]
    theirs = openmetrics.generate_latest(registry).decode()  # type: ignore[no-untyped-call]

    ours = Exposition(tmp_path).text(openmetrics=True) + "# EOF\n"

    assert sorted(ours.splitlines()) == sorted(theirs.splitlines())
    assert _families(ours) == _families(theirs)


def _families(page: str) -> dict[str, str]:
    """Return the type of each family according to the library's strict parser."""
    families = text_string_to_metric_families(page)  # type: ignore[no-untyped-call]
    return {each.name: each.type for each in families}


def _process(
    directory: Path, pid: int, monkeypatch: pytest.MonkeyPatch, step: float = 1 / 3
) -> dict[str, Slots]:
    """Write the files of one process, with a different value for each series."""
    monkeypatch.setattr(os, "getpid", lambda: pid)
    layouts = {
        type_: Layout(type_) for type_ in ("counter", "histogram", "summary", "gauge_livesum")
    }
    for label in ("plain", 'quote " and \\ and\nline', "Säure σ"):
        labels = {"name": label, "fixed": "1"}
        layouts["counter"].counter("rows", HELP, labels)
        layouts["histogram"].histogram("seconds", "Time.", labels, (0.005, 0.3, 1.0, 10.0))
        layouts["summary"].summary("bytes", "Sizes.", labels)
        layouts["gauge_livesum"].gauge("busy", "Now.", labels)
    layouts["counter"].counter("bare", "Without labels.", {})
    slots = {type_: layout.create(directory, "test") for type_, layout in layouts.items()}
    for each in slots.values():
        for slot in range(len(each.positions)):
            each.increment(slot, pid + slot * step)
    return slots


def test_several_processes_are_added_like_in_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counters, histograms, summaries and live gauges are equal, with labels that need escaping."""
    for pid in (11, 12, 13):
        _process(tmp_path, pid, monkeypatch)

    samples = _assert_same(Exposition(tmp_path), tmp_path)

    assert samples["rows_total", frozenset({("name", "plain"), ("fixed", "1")})] == pytest.approx(
        36
    )


def test_the_page_follows_changes_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prepared lines are renewed if a file grows, is replaced, appears or disappears."""
    exposition = Exposition(tmp_path)
    assert exposition.text() == ""

    slots = _process(tmp_path, 21, monkeypatch)
    _assert_same(exposition, tmp_path)
    slots["counter"].increment(0, 5)
    _assert_same(exposition, tmp_path)

    theirs = MmapedDict(str(tmp_path / "counter_22.db"))  # type: ignore[no-untyped-call]
    _assert_same(exposition, tmp_path)
    for number in range(1000):
        key = mmap_key("rows", "rows_total", ["name", "fixed"], [f"new {number}", "1"], HELP)
        theirs.write_value(key, number, 0)  # type: ignore[no-untyped-call]
        if number % 250 == 0:
            _assert_same(exposition, tmp_path)
    theirs.close()  # type: ignore[no-untyped-call]

    (tmp_path / "histogram_test_21.db").unlink()
    remaining = _assert_same_values(exposition, tmp_path)
    assert ("rows_total", frozenset({("name", "new 999"), ("fixed", "1")})) in remaining
    _process(tmp_path, 21, monkeypatch)
    _assert_same(exposition, tmp_path)


def _assert_same_values(exposition: Exposition, directory: Path) -> Samples:
    """Compare values after a file was removed: its series remain at 0."""
    ours, theirs = parse(exposition.text()), parse(_theirs(directory))
    assert theirs == {key: value for key, value in ours.items() if key in theirs}
    assert {0.0} == {value for key, value in ours.items() if key not in theirs}
    return ours


def test_an_empty_file_has_no_series(tmp_path: Path) -> None:
    """The library creates a file before filling it."""
    (tmp_path / "counter_1.db").touch()

    assert Exposition(tmp_path).text() == ""


def test_a_file_may_grow_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker adds series between a scrape's look at the file and its reading: none is cut off."""
    layout = Layout("counter")
    layout.counter("requests", "Requests.", {"route": "first"})
    slots = layout.create(tmp_path, "http")
    fstat = os.fstat

    def grow(descriptor: int) -> os.stat_result:
        before = fstat(descriptor)
        more = Layout("counter")
        for number in range(100):
            more.counter("requests", "Requests.", {"route": f"{number} {'x' * 100}"})
        slots.append(more.keys)
        return before

    monkeypatch.setattr(os, "fstat", grow)

    assert Exposition(tmp_path).text().count("requests_total{") == 101
