"""Erasing predictions and labels by id, from the log and from the spool, beside its writers."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import fs

from publisher.erase import erase, main
from publisher.erase_files import erase_files
from publisher.header import read_header
from publisher.quarantine import Quarantine
from publisher.spool import is_closed, read_lines
from serving.events import Label, Prediction
from tests.support.prediction_log import log_segment
from tests.support.spool import label, predictions, small_spool

DAY = 86_400.0
NOON = 1_795_780_800.0  # of 2026-11-27
LOCAL = fs.LocalFileSystem()


class Place:
    """A spool with two readers, and a log."""

    def __init__(self, directory: Path) -> None:
        self.spool = directory / "spool"
        self.sink = self.spool / "log"
        self.root = directory / "prediction-log"

    def write(self, *events: Prediction | Label) -> Path:
        """Write a closed segment and return the sink's link to it."""
        writer, _ = small_spool(self.spool, self.sink)
        writer.append(events)
        writer.close()
        return self.sink / max(self.spool.glob("*.jsonl")).name

    def publish(self, *segments: Path) -> list[Path]:
        """Log segments as the sink does, and remove its links."""
        paths: list[Path] = []
        for segment in segments or sorted(self.sink.glob("*.jsonl")):
            paths += map(Path, log_segment(segment, str(self.root)))
            segment.unlink()
        return paths

    def erase(self, *ids: str, wait: float = 0.0) -> list[str]:
        """Erase and return the report."""
        return [*erase(LOCAL, str(self.root), self.spool, ids, wait).lines()]

    def logged(self) -> list[str]:
        """Return the id of every row of the log."""
        return [
            each
            for path in sorted(self.root.rglob("[!.]*.parquet"))
            for each in pq.read_table(path)["prediction_id"].to_pylist()
        ]

    def holds(self, key: str) -> list[str]:
        """Return the files of spool and log that have an id, be it a row that no reader sees."""
        rows = [
            path.name
            for path in self.root.rglob("*.parquet*")
            if key in pq.read_table(path)["prediction_id"].to_pylist()
        ]
        text = f'"{key}"'.encode()
        files = [path for path in self.spool.rglob("*") if path.is_file()]
        return rows + [path.name for path in files if text in path.read_bytes()]


@pytest.fixture(name="place")
def _place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_prediction_and_its_labels_are_erased_from_every_file(place: Place) -> None:
    """The other rows stay as they were, with the columns and the header that they had."""
    place.write(*predictions(["a", "b"], NOON), *predictions(["c"], NOON + DAY))
    place.write(label("a"), label("b"), label("d"))
    paths = place.publish()
    before = {path: pq.read_table(path) for path in paths}

    report = place.erase("a", "d")

    assert report == [
        "erased 1 predictions and 2 labels in 2 files of the log, 3 lines of the spool"
    ]
    assert sorted(place.logged()) == ["b", "b", "c"]
    assert place.holds("a") == []
    for path in paths:
        after = pq.read_table(path)
        assert after.schema.equals(before[path].schema, check_metadata=True)
        kept = [row for row in before[path].to_pylist() if row["prediction_id"] not in ("a", "d")]
        assert after.to_pylist() == kept


def test_a_file_of_which_nothing_is_left_is_removed(place: Place) -> None:
    """No empty file is left behind."""
    place.write(*predictions(["a"], NOON), *predictions(["b"], NOON + DAY))
    first, second = place.publish()

    assert place.erase("a")[0].startswith("erased 1 predictions and 0 labels in 1 files")
    assert (first.exists(), second.exists()) == (False, True)


def test_ids_that_are_nowhere_are_named(place: Place) -> None:
    """Each once, in the order in which they were given."""
    place.write(*predictions(["a"]))
    place.publish()

    assert place.erase("nobody", "a", "b") == [
        "erased 1 predictions and 0 labels in 1 files of the log, 1 lines of the spool",
        "not found: nobody",
        "not found: b",
    ]


def test_only_files_whose_range_of_ids_fits_are_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The range is in the footer, so that it is right for ids of any form."""
    for ids in (["a1", "a9"], ["b1", "b9"], ["é", "z"]):
        place.write(*predictions(ids))
    place.publish()
    read: list[str] = []
    real = pq.ParquetFile.read

    def counted(file: pq.ParquetFile, *columns: list[str]) -> pa.Table:
        read.append(str(columns))
        return real(file, *columns)

    monkeypatch.setattr(pq.ParquetFile, "read", counted)

    assert erase_files(LOCAL, str(place.root), ["a5", "b0", "zz"]).files == 0
    assert len(read) == 2  # a5 in the first, zz in the third
    assert erase_files(LOCAL, str(place.root), ["é"]).files == 1


def test_what_waits_in_the_spool_does_not_come_back(place: Place) -> None:
    """The line is cleared for all readers, where it is, so that positions stay right."""
    segment = place.write(*predictions(["a", "b"]), label("a"), label("b"))
    size = segment.stat().st_size
    header = read_header(segment.read_bytes().splitlines()[0])

    report = place.erase("a")
    place.publish()

    assert report == [
        "erased 0 predictions and 0 labels in 0 files of the log, 2 lines of the spool"
    ]
    assert place.logged() == ["b", "b"]
    (other,) = place.spool.glob("*.jsonl")
    assert other.stat().st_size == size
    assert read_header(other.read_bytes().splitlines()[0]) == header
    assert place.holds("a") == []


def test_readers_of_the_spool_skip_what_was_erased(place: Place) -> None:
    """It is no damaged line."""
    segment = place.write(*predictions(["a", "b"]), label("a"), label("b"))
    place.erase("a")
    start = len(segment.read_bytes().splitlines()[0]) + 1
    size = segment.stat().st_size

    found = [read_lines(segment, start, size, 10, labels=labels) for labels in (False, True)]

    assert [[json.loads(line) for line in each.lines] for each in found] == [
        [each] for each in lines_of(segment)
    ]
    assert [each.offset for each in found] == [size, size]


def lines_of(segment: Path) -> list[object]:
    """Return the events of a segment."""
    return [json.loads(line) for line in segment.read_bytes().splitlines()[1:] if line.strip()]


def test_a_segment_that_is_still_written_to_is_cleared(place: Place) -> None:
    """The worker goes on in the same file."""
    writer, _ = small_spool(place.spool, place.sink)
    writer.append(predictions(["a", "b"]))

    place.erase("a")
    writer.append(predictions(["c"]))
    writer.close()
    place.publish()

    assert place.logged() == ["b", "c"]


def test_what_was_set_aside_is_erased(place: Place) -> None:
    """Or requeue would send it again; so are unreadable segments and those that are kept."""
    first = place.write(*predictions(["a", "b"]))
    second = place.write(*predictions(["a"]))
    header, a, b = first.read_bytes().splitlines()
    quarantine = Quarantine(place.spool / "quarantine")
    for line in (a, b, b'{"prediction_id":"a"\xff'):
        quarantine.add(read_header(header), "prediction", line, "too large: 3.5")
    first.rename(first.with_suffix(".published.jsonl"))
    second.rename(second.with_suffix(".unreadable"))

    assert place.erase("a")[0].endswith("4 lines of the spool")
    assert place.holds('"a') == []
    (left,) = (place.spool / "quarantine" / "rejected.jsonl").read_text().splitlines()
    assert json.loads(left)["line"] == b.decode()


@pytest.mark.parametrize("damage", [range(0), range(30, 60), range(200, 400)])
def test_no_value_is_printed(place: Place, damage: range) -> None:
    """Whatever has happened to the file."""
    place.write(*predictions(["a", "b"]))
    (path,) = place.publish()
    content = bytearray(path.read_bytes())
    for at in damage:
        content[at] ^= 0xFF
    path.write_bytes(content)

    report = "".join(place.erase("a", "b"))

    assert "3.5" not in report
    assert "5.5" not in report


def test_a_file_that_cannot_be_searched_is_named(place: Place) -> None:
    """It may hold the row, so the exit status says that something is left."""
    place.write(*predictions(["a"]))
    place.write(*predictions(["a", "b"]))
    damaged, _ = place.publish()
    damaged.write_bytes(b"PAR1")

    report = erase(LOCAL, str(place.root), place.spool, ["a"], 0)

    assert not report.is_complete
    assert [line.partition(".parquet: ")[0] for line in report.lines()][1:] == [
        f"cannot be searched: {damaged}".removesuffix(".parquet")
    ]


@pytest.mark.parametrize("mark", ["", ".erase"])
def test_what_a_killed_process_left_half_written_is_removed(place: Place, mark: str) -> None:
    """Its rows are in a file that no reader looks into."""
    place.write(*predictions(["a"]))
    (path,) = place.publish()
    path.rename(path.with_name(f".{path.name}{mark}"))

    place.erase("a")

    assert place.holds("a") == []


class Sink:
    """A publisher of the log that has read a segment and takes its time to write it."""

    def __init__(self, place: Place, segment: Path) -> None:
        self._place = place
        self._segment = segment
        self._read = segment.read_bytes()
        self._lock = os.open(place.sink, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self) -> None:
        """Write what was read, and remove the segment."""
        copy = self._segment.parent.parent / self._segment.name
        copy.write_bytes(self._read)
        log_segment(copy, str(self._place.root))
        copy.unlink()
        self._segment.unlink()

    def stop(self) -> None:
        """Stop as a process that ends."""
        fcntl.flock(self._lock, fcntl.LOCK_UN)


@pytest.fixture(name="sink")
def _sink(place: Place) -> Iterator[Sink]:
    sink = Sink(place, place.write(*predictions(["a", "b"])))
    yield sink
    sink.stop()


def test_what_a_publisher_has_read_before_is_erased_once_it_is_written(
    place: Place, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command waits for the segments that were closed, and searches their files again."""
    monkeypatch.setattr("publisher.erase.time.sleep", lambda _: sink.write())

    report = place.erase("a", wait=60.0)

    assert report == [
        "erased 1 predictions and 0 labels in 1 files of the log, 1 lines of the spool"
    ]
    assert place.logged() == ["b"]


def test_a_publisher_that_does_not_come_to_an_end_is_reported(place: Place, sink: Sink) -> None:
    """Exit status 1 says that the command must be run again; then it is complete."""
    report = erase(LOCAL, str(place.root), place.spool, ["a"], 0)

    assert not report.is_complete
    assert [*report.lines()][-1].startswith(
        "1 segments were being written to the log and may hold these ids: run this again"
    )
    again = erase(LOCAL, str(place.root), place.spool, ["a"], 0)
    assert not again.is_complete, "the ids are in the publisher's memory alone"

    sink.write()
    assert place.logged() == ["a", "b"]
    assert erase(LOCAL, str(place.root), place.spool, ["a"], 0).is_complete
    assert place.logged() == ["b"]


def test_a_publisher_that_ends_meanwhile_is_not_waited_for(
    place: Place, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed, it reads the cleared segment after its next start."""
    monkeypatch.setattr("publisher.erase.time.sleep", lambda _: sink.stop())

    assert erase(LOCAL, str(place.root), place.spool, ["a"], 60.0).is_complete
    place.publish()
    assert place.logged() == ["b"]


def test_two_that_erase_at_once_do_not_undo_each_other(place: Place) -> None:
    """The second one waits for the first."""
    place.write(*predictions(["a", "b", "c"]))
    place.publish()
    threads = [Thread(target=place.erase, args=(each,)) for each in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert place.logged() == ["c"]


def test_erasing_beside_a_writing_publisher_leaves_nothing(place: Place) -> None:
    """Segments are written, logged and erased at once; in the end, no erased id is anywhere."""
    stop = Event()

    def publish() -> None:
        while not stop.is_set() or [*place.sink.glob("*.jsonl")]:
            for segment in sorted(filter(is_closed, place.sink.glob("*.jsonl"))):
                place.publish(segment)

    first = [f"first-{n}" for n in range(20)]
    place.write(*predictions(first))
    descriptor = os.open(place.sink, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    publisher = Thread(target=publish)
    publisher.start()
    try:
        for number in range(20):
            place.write(*predictions([f"{number}-a", f"{number}-b"]), label(f"{number}-a"))
            assert erase(
                LOCAL, str(place.root), place.spool, [f"{number}-a", f"first-{number}"], 60.0
            ).is_complete
    finally:
        stop.set()
        publisher.join()
        os.close(descriptor)

    assert sorted(place.logged()) == sorted(f"{number}-b" for number in range(20))


def test_the_command_reads_ids_from_a_file(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One on each line, beside those that are typed; spaces and empty lines do not matter."""
    place.write(*predictions(["a", "b", "c", "d"]))
    place.publish()
    file = tmp_path / "ids.txt"
    file.write_text(" a \n\nb\r\na\n")

    arguments = ["c", "--file", str(file), "--log", str(place.root), "--spool", str(place.spool)]
    assert main(arguments) == 0
    assert place.logged() == ["d"]
    assert capsys.readouterr().out.count("\n") == 1


def test_without_a_spool_the_command_says_what_may_come(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events on their way to the log are in the spool of each replica."""
    monkeypatch.delenv("MODEL_SPOOL_DIR", raising=False)
    monkeypatch.setenv("PREDICTION_LOG", str(place.root))
    place.write(*predictions(["a"]))
    place.publish()

    assert main(["a"]) == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("there is no spool here: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "erase: name a prediction id, or a file of them with --file"),
        (["--file", "/no/file"], "erase: --file: "),
        (["a"], "erase: PREDICTION_LOG is not set"),
        (["a", "--log", "ftp://x/y"], "erase: ftp://x/y is no directory, s3:// or gs:// URL"),
    ],
)
def test_a_wrong_call_is_one_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    """On stderr, with exit status 1."""
    monkeypatch.delenv("PREDICTION_LOG", raising=False)

    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_a_file_that_the_publisher_writes_again_is_not_written_into(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the two has an unfinished file of its own, and whole files replace each other."""
    place.write(*predictions(["a", "b"]))
    (path,) = place.publish()
    half_written = path.with_name(f".{path.name}")
    real = os.fsync

    def write_half(descriptor: int) -> None:
        half_written.write_bytes(b"half")
        real(descriptor)

    monkeypatch.setattr("publisher.store.os.fsync", write_half)
    place.erase("a")

    assert place.logged() == ["b"]
    assert half_written.read_bytes() == b"half"
