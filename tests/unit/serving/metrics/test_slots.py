"""Slots: what prometheus_client reads from the files is what was added to them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.mmap_dict import MmapedDict

from serving.metrics.slots import Layout, encode, entries, used_bytes
from tests.support.bundles import read_metrics

NOTHING = frozenset[tuple[str, str]]()
STRANGE = ("", "pH (value)", "Säure σ", "💧", 'a"b\\c\nd', "x" * 100, "{le}", "a,b=c")


def labels(**pairs: str) -> frozenset[tuple[str, str]]:
    """Return labels as the parsed samples have them."""
    return frozenset(pairs.items())


def test_a_counter_is_read_as_it_was_added(tmp_path: Path) -> None:
    """One slot, several at once, fractions too."""
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


def test_every_series_is_there_at_zero(tmp_path: Path) -> None:
    """Before anything was added, or the first increment would be no increase."""
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


def test_a_histogram_is_cumulated(tmp_path: Path) -> None:
    """Slots hold each bucket's own count; readers see cumulated ones, and the count."""
    layout = Layout("histogram")
    histogram = layout.histogram("seconds", "Seconds.", {}, (0.1, 1.0))
    layout.create(tmp_path, "test").add(histogram, np.array([3, 2, 1, 9.5]))

    samples = read_metrics(tmp_path)
    buckets = [samples["seconds_bucket", labels(le=le)] for le in ("0.1", "1.0", "+Inf")]
    assert buckets == [3, 5, 6]
    assert samples["seconds_count", NOTHING] == 6
    assert samples["seconds_sum", NOTHING] == 9.5


def test_a_summary_has_count_and_sum(tmp_path: Path) -> None:
    """In this order."""
    layout = Layout("summary")
    summary = layout.summary("bytes", "Bytes.", {})
    layout.create(tmp_path, "test").add(summary, np.array([2, 300]))

    assert read_metrics(tmp_path) == {("bytes_count", NOTHING): 2, ("bytes_sum", NOTHING): 300}


@pytest.mark.parametrize("value", STRANGE)
def test_labels_may_be_anything(tmp_path: Path, value: str) -> None:
    """Unicode, quotes, line feeds; the values beside them stay aligned."""
    layout = Layout("counter")
    for n in range(9):
        # Keys of nine successive lengths: every padding there is.
        layout.counter("things", "Things: π.", {"name": value, "n": "n" * n})
    layout.create(tmp_path, "test").add(slice(0, 9), np.arange(9.0))

    samples = read_metrics(tmp_path)
    assert [samples["things_total", labels(name=value, n="n" * n)] for n in range(9)] == list(
        range(9)
    )


def test_files_of_several_kinds_add_up(tmp_path: Path) -> None:
    """A series in prometheus_client's own file and in ours, of two processes, is one series."""
    layout = Layout("counter")
    slot = layout.counter("things", "Things.", {"b": "2", "a": "1"})
    layout.create(tmp_path, "test").increment(slot, 1)
    mine = tmp_path / f"counter_test_{os.getpid()}.db"
    shutil.copy(mine, tmp_path / "counter_test_1.db")
    library = MmapedDict(str(tmp_path / "counter_2.db"))  # type: ignore[no-untyped-call]
    library.write_value(layout.keys[slot], 40.0, 0.0)  # type: ignore[no-untyped-call]
    library.close()  # type: ignore[no-untyped-call]

    assert read_metrics(tmp_path) == {("things_total", labels(a="1", b="2")): 42}


def test_the_file_is_named_by_type_name_and_process(tmp_path: Path) -> None:
    """MultiProcessCollector takes the type from the beginning, the archive the pid from the end."""
    Layout("counter").create(tmp_path, "some-name")

    assert [path.name for path in tmp_path.iterdir()] == [f"counter_some-name_{os.getpid()}.db"]


def test_no_half_written_file_is_ever_read(tmp_path: Path) -> None:
    """A file gets its name when it is complete: readers look for *.db."""
    (tmp_path / "counter_test_1.new").write_bytes(b"half")

    assert read_metrics(tmp_path) == {}


def test_entries_finds_what_encode_wrote() -> None:
    """Keys in order, and where their values are."""
    pairs = [(key * n, float(n)) for n in range(1, 30) for key in ("k", "σ")]
    content, positions = encode(pairs)

    assert [key for key, _ in pairs] == [key for key, _ in entries(content)]
    assert positions == [position for _, position in entries(content)]
    assert [value for _, value in pairs] == np.frombuffer(content)[positions].tolist()
    assert used_bytes(content) == len(content)


def test_a_file_just_created_has_no_entries() -> None:
    """prometheus_client makes an empty file, then one full of zeros."""
    for content in (b"", bytes(1 << 16)):
        assert list(entries(content)) == []


def test_a_file_that_grows_is_read_as_far_as_it_is_used(tmp_path: Path) -> None:
    """prometheus_client's files are larger than what they hold."""
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


def test_a_directory_that_cannot_be_written_is_an_oserror(tmp_path: Path) -> None:
    """Whoever starts the service can say so."""
    with pytest.raises(OSError, match="No such file or directory"):
        Layout("counter").create(tmp_path / "nowhere", "test")
