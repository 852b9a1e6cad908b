"""Values that were added to slots are what prometheus_client reads from their files."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.mmap_dict import MmapedDict

from serving.metrics.exposition import Exposition
from serving.metrics.slots import Layout, Slots, encode, entries, used_bytes
from tests.support.bundles import read_metrics

NOTHING = frozenset[tuple[str, str]]()
STRANGE = ("", "pH (value)", "Säure σ", "💧", 'a"b\\c\nd', "x" * 100, "{le}", "a,b=c")


def labels(**pairs: str) -> frozenset[tuple[str, str]]:
    """Return labels as in the parsed samples."""
    return frozenset(pairs.items())


def test_a_counter_has_the_sum_of_its_increments(tmp_path: Path) -> None:
    """Amounts can be fractions, and can be added to one slot or several at once."""
    layout = Layout("counter")
    one, two, three = (layout.counter("things", "Things.", {"n": str(n)}) for n in range(3))
    slots = layout.create(tmp_path, "test")
    slots.increment(one, 1)
    slots.add(two, 2.5)
    slots.add(slice(one, three + 1), np.array([10, 20, 30]))
    slots.add(np.array([three, one]), np.array([0.25, 0.5]))

    assert read_metrics(tmp_path) == {
        ("things_total", labels(n="0")): 11.5,
        ("things_total", labels(n="1")): 22.5,
        ("things_total", labels(n="2")): 30.25,
    }


def test_every_series_starts_at_zero(tmp_path: Path) -> None:
    """Otherwise Prometheus would not see the first increment."""
    counters, histograms = Layout("counter"), Layout("histogram")
    counters.counter("things", "Things.", {})
    histograms.histogram("seconds", "Seconds.", {"route": "/"}, (0.1, 1.0))
    counters.create(tmp_path, "test")
    histograms.create(tmp_path, "test")

    assert read_metrics(tmp_path) == {
        ("things_total", NOTHING): 0,
        ("seconds_bucket", labels(route="/", le="0.1")): 0,
        ("seconds_bucket", labels(route="/", le="1.0")): 0,
        ("seconds_bucket", labels(route="/", le="+Inf")): 0,
        ("seconds_count", labels(route="/")): 0,
        ("seconds_sum", labels(route="/")): 0,
    }


def test_a_histogram_becomes_cumulative(tmp_path: Path) -> None:
    """Slots hold each bucket's own count; readers see cumulative buckets and the total."""
    layout = Layout("histogram")
    histogram = layout.histogram("seconds", "Seconds.", {}, (0.1, 1.0))
    layout.create(tmp_path, "test").add(histogram, np.array([3, 2, 1, 9.5]))

    samples = read_metrics(tmp_path)
    buckets = [samples["seconds_bucket", labels(le=le)] for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [3, 5, 6]
    assert samples["seconds_count", NOTHING] == 6
    assert samples["seconds_sum", NOTHING] == 9.5


def test_a_summary_has_count_and_sum(tmp_path: Path) -> None:
    """The count is the first slot, and the sum the second."""
    layout = Layout("summary")
    summary = layout.summary("bytes", "Bytes.", {})
    layout.create(tmp_path, "test").add(summary, np.array([2, 300]))

    assert read_metrics(tmp_path) == {("bytes_count", NOTHING): 2, ("bytes_sum", NOTHING): 300}


@pytest.mark.parametrize("value", STRANGE)
def test_labels_can_have_any_characters(tmp_path: Path, value: str) -> None:
    """Unicode, quotes and line feeds are read back, and values remain aligned."""
    layout = Layout("counter")
    for n in range(9):
        # Keys of nine successive lengths need every possible padding.
        layout.counter("things", "Things: π.", {"name": value, "n": "n" * n})
    layout.create(tmp_path, "test").add(slice(0, 9), np.arange(9.0))

    samples = read_metrics(tmp_path)
    assert [samples["things_total", labels(name=value, n="n" * n)] for n in range(9)] == list(
        range(9)
    )


def test_files_of_the_library_and_of_slots_are_added(tmp_path: Path) -> None:
    """A series in prometheus_client's file and in ours, of two processes, is one series."""
    layout = Layout("counter")
    slot = layout.counter("things", "Things.", {"b": "2", "a": "1"})
    layout.create(tmp_path, "test").increment(slot, 1)
    mine = tmp_path / f"counter_test_{os.getpid()}.db"
    shutil.copy(mine, tmp_path / "counter_test_1.db")
    library = MmapedDict(str(tmp_path / "counter_2.db"))  # type: ignore[no-untyped-call]
    library.write_value(layout.keys[slot], 40.0, 0.0)  # type: ignore[no-untyped-call]
    library.close()  # type: ignore[no-untyped-call]

    assert read_metrics(tmp_path) == {("things_total", labels(a="1", b="2")): 42}


def test_the_name_of_a_file_has_type_name_and_pid(tmp_path: Path) -> None:
    """MultiProcessCollector reads the type from its start, and the archive the pid from its end."""
    Layout("counter").create(tmp_path, "some-name")

    assert [path.name for path in tmp_path.iterdir()] == [f"counter_some-name_{os.getpid()}.db"]


def test_an_incomplete_file_is_not_read(tmp_path: Path) -> None:
    """A file gets its name when it is complete, and readers look for *.db."""
    (tmp_path / "counter_test_1.new").write_bytes(b"half")

    assert read_metrics(tmp_path) == {}


def test_entries_are_those_that_were_encoded() -> None:
    """Keys are in order, with the positions of their values."""
    pairs = [(key * n, float(n)) for n in range(1, 30) for key in ("k", "σ")]
    content, positions = encode(pairs)

    assert [key for key, _ in pairs] == [key for key, _ in entries(content)]
    assert positions == [position for _, position in entries(content)]
    assert [value for _, value in pairs] == np.frombuffer(content)[positions].tolist()
    assert used_bytes(content) == len(content)


def test_an_empty_file_has_no_entries() -> None:
    """prometheus_client creates an empty file and then fills it with zeros."""
    for content in (b"", bytes(1 << 16)):
        assert list(entries(content)) == []


def test_only_the_used_part_of_a_file_is_read(tmp_path: Path) -> None:
    """Files of prometheus_client are larger than their content."""
    path = tmp_path / "counter_1.db"
    library = MmapedDict(str(path))  # type: ignore[no-untyped-call]
    for n in range(3):
        library.write_value(f"key {n}", float(n), 0.0)  # type: ignore[no-untyped-call]
    library.close()  # type: ignore[no-untyped-call]

    content = path.read_bytes()
    assert [key for key, _ in entries(content)] == ["key 0", "key 1", "key 2"]
    assert np.frombuffer(content)[[position for _, position in entries(content)]].tolist() == [
        0.0,
        1.0,
        2.0,
    ]


def test_an_unwritable_directory_raises_an_oserror(tmp_path: Path) -> None:
    """The entrypoint can report it."""
    with pytest.raises(OSError, match="No such file or directory"):
        Layout("counter").create(tmp_path / "nowhere", "test")


def test_series_can_be_added_to_a_file(tmp_path: Path) -> None:
    """Readers see them at 0, then with their values; those from before keep theirs."""
    layout = Layout("counter")
    first = layout.counter("things", "Things.", {"n": "first"})
    slots = layout.create(tmp_path, "test")
    slots.increment(first, 1)
    for number in range(200):
        more = Layout("counter")
        more.counter("things", "Things.", {"n": str(number)})
        (place,) = slots.append(more.keys)
        assert read_metrics(tmp_path)["things_total", labels(n=str(number))] == 0
        slots.cells[place] += number
        slots.increment(first, 1)

    samples = read_metrics(tmp_path)
    assert samples["things_total", labels(n="first")] == 201
    assert [samples["things_total", labels(n=str(n))] for n in range(200)] == list(range(200))


def test_files_are_fully_allocated(tmp_path: Path) -> None:
    """Writing to a hole would end the process once the disk is full."""
    layout = Layout("counter")
    for number in range(500):
        layout.counter("things", "Things.", {"n": str(number)})
    slots = layout.create(tmp_path, "test")
    slots.append(layout.keys)
    (path,) = tmp_path.iterdir()

    assert path.stat().st_blocks * 512 >= path.stat().st_size > 0


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every allocation fail as on a full disk."""

    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    monkeypatch.setattr(Slots, "is_any_lost", False)


@pytest.mark.usefixtures("full")
def test_a_full_directory_costs_the_counts_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The process can count, an empty file shows that it lives, and one line says so."""
    for type_ in ("counter", "histogram"):
        layout = Layout(type_)
        slot = layout.counter("things", "Things.", {})
        slots = layout.create(tmp_path, "test")
        slots.increment(slot, 1)
        (place,) = slots.append(layout.keys)
        slots.cells[place] += 1

        assert slots.cells[slots.places[slot]] == slots.cells[place] == 1

    assert Slots.is_any_lost
    assert [path.stat().st_size for path in tmp_path.iterdir()] == [0, 0]
    assert Exposition(tmp_path).text() == ""
    (line,) = caplog.records
    assert "is full" in line.getMessage()


def test_a_file_that_cannot_grow_keeps_its_series(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A series that does not fit raises an error, and the others count on."""
    layout = Layout("counter")
    slot = layout.counter("things", "Things.", {})
    slots = layout.create(tmp_path, "test")
    request.getfixturevalue("full")
    with pytest.raises(OSError, match="no room"):
        slots.append(["x" * 5000])
    slots.increment(slot, 1)

    assert read_metrics(tmp_path) == {("things_total", NOTHING): 1}
