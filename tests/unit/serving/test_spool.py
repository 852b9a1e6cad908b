"""The writer of the spool: format, rotation, size limit, and failures of the disk."""

import errno
import fcntl
import json
import os
import zlib
from pathlib import Path

import pytest

from serving.events import Prediction
from serving.spool_room import Limits
from tests.support.bundles import make_classification
from tests.support.spool import label, lines, predictions, small_spool, spool_of


def segments(directory: Path) -> list[Path]:
    """Return the segments in order of age, oldest first."""
    return sorted(directory.glob("*.jsonl"))


def test_the_first_line_is_the_header(tmp_path: Path) -> None:
    """It names the model and its columns, with their ranges in training."""
    spool, _ = small_spool(tmp_path)

    spool.append(predictions(["a"]))

    (segment,) = segments(tmp_path)
    header = json.loads(segment.read_text().splitlines()[0])
    checksum = header.pop("crc32")
    assert header == {
        "spool": 1,
        "model": "loans",
        "version": "abc",
        "task": "regression",
        "features": [
            {"name": "ph", "type": "number", "minimum": 2, "maximum": 4},
            {"name": "shelf", "type": "integer", "minimum": 2, "maximum": 4},
        ],
        "prediction": {"minimum": 2, "maximum": 4},
        "target": {"name": "quality", "minimum": 0, "maximum": 10},
    }
    without = json.dumps(header, separators=(",", ":")).encode()
    assert checksum == f"{zlib.crc32(without):08x}"


@pytest.mark.parametrize(
    ("probabilities", "prediction"), [(True, {"probabilities": True}), (False, {})]
)
def test_the_header_of_a_classification_says_what_is_predicted(
    tmp_path: Path, prediction: dict[str, bool], *, probabilities: bool
) -> None:
    """It has classes and no range, and says whether probabilities follow."""
    manifest = make_classification((1, 2, 3), probabilities=probabilities)
    spool_of(tmp_path, manifest, predictions(["a"]))

    (segment,) = segments(tmp_path)
    header = json.loads(segment.read_text().splitlines()[0])
    assert header["prediction"] == prediction
    assert header["target"] == {"name": "kind", "classes": [1, 2, 3]}


def test_each_event_is_one_line(tmp_path: Path) -> None:
    """Predictions and labels are lines of JSON, in order; a missing value is null."""
    spool, counts = small_spool(tmp_path)

    spool.append([Prediction("a", 1.25, (3.5, float("nan")), 5.6)])
    spool.append([label("a")])

    assert lines(tmp_path) == [
        {"prediction_id": "a", "time": 1.25, "features": [3.5, None], "prediction": 5.6},
        {"label_of": "a", "time": 1_764_000_900.5, "version": "abc", "actual": 6.0},
    ]
    assert counts == {"written": 2}


def test_a_batch_is_written_with_one_system_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One system call appends any number of events."""
    spool, _ = small_spool(tmp_path)
    spool.append(predictions(["first"]))
    sizes = []

    def write(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(descriptor, data)

    real = os.write
    monkeypatch.setattr(os, "write", write)

    spool.append(predictions(map(str, range(100))))

    assert len(sizes) == 1
    assert len(lines(tmp_path)) == 101


def test_a_full_segment_is_followed_by_another(tmp_path: Path) -> None:
    """No segment exceeds its size, and no event is lost in between."""
    spool, _ = small_spool(tmp_path, limits=Limits(1_000_000, 1_000, 60.0))

    for number in range(50):
        spool.append(predictions([str(number)]))

    assert len(segments(tmp_path)) > 5
    assert all(path.stat().st_size <= 1_000 for path in segments(tmp_path))
    assert [line["prediction_id"] for line in lines(tmp_path)] == [str(n) for n in range(50)]


def test_an_old_segment_is_followed_by_another(tmp_path: Path) -> None:
    """No event is written to a segment that has reached its maximum age."""
    spool, _ = small_spool(tmp_path, limits=Limits(1_000_000, 100_000, 0.0))

    spool.append(predictions(["a"]))
    spool.append(predictions(["b"]))

    assert len(segments(tmp_path)) == 2


def test_only_an_open_segment_is_locked(tmp_path: Path) -> None:
    """No process writes to a segment that can be locked."""
    spool, _ = small_spool(tmp_path, limits=Limits(1_000_000, 100_000, 0.0))
    spool.append(predictions(["a"]))
    spool.append(predictions(["b"]))
    closed, written = segments(tmp_path)

    with closed.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with written.open("rb") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_full_spool_drops_its_oldest_segments(tmp_path: Path) -> None:
    """The limit applies to all workers together; the oldest events are dropped and counted."""
    limits = Limits(5_000, 1_000, 60.0)
    (one, counts), (other, others) = (
        small_spool(tmp_path, limits=limits),
        small_spool(tmp_path, limits=limits),
    )

    for number in range(100):
        one.append(predictions([f"{number}"]))
        other.append(predictions([f"{number}'"]))

    assert sum(path.stat().st_size for path in segments(tmp_path)) <= 5_000
    left = {line["prediction_id"] for line in lines(tmp_path)}
    assert {"99", "99'"} <= left
    assert counts["dropped"] + others["dropped"] == 200 - len(left)
    assert counts["written"] + others["written"] == 200


def test_published_segments_are_removed_first(tmp_path: Path) -> None:
    """Kept segments make room before an unpublished event is dropped."""
    spool, counts = small_spool(tmp_path, limits=Limits(1_700, 1_000, 0.0))
    spool.append(predictions(["a"]))
    spool.append(predictions(["b"]))
    spool.close()
    oldest, newest = segments(tmp_path)
    published = newest.rename(newest.with_suffix(".published.jsonl"))

    spool.append(predictions(["c"]))

    assert oldest.exists()
    assert not published.exists()
    assert counts["dropped"] == 0


def test_open_segments_are_never_dropped(tmp_path: Path) -> None:
    """If open segments fill the spool, new events are counted as failed."""
    limits = Limits(1_500, 1_000, 60.0)
    (one, _), (other, others) = (
        small_spool(tmp_path, limits=limits),
        small_spool(tmp_path, limits=limits),
    )
    one.append(predictions(["a"]))

    other.append(predictions(["b"]))

    assert [line["prediction_id"] for line in lines(tmp_path)] == ["a"]
    assert others == {"failed": 1, "written": 0}


def test_a_full_disk_loses_only_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that the disk rejects are counted, and later ones are written."""
    spool, counts = small_spool(tmp_path)
    spool.append(predictions(["a"]))

    def fail(_: int, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", fail)
        spool.append(predictions(["b", "c"]))
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    spool.append(predictions(["d"]))

    assert [line["prediction_id"] for line in lines(tmp_path)] == ["a", "d"]
    assert counts == {"written": 2, "failed": 2}


def test_after_a_failure_nothing_is_written_for_a_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events of the next second are counted as failed without trying."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    directory = tmp_path / "spool"
    directory.touch()
    spool, counts = small_spool(directory)
    spool.append(predictions(["a"]))
    directory.unlink()

    clock[0] = 100.9
    spool.append(predictions(["b"]))
    clock[0] = 101.1
    spool.append(predictions(["c"]))

    assert [line["prediction_id"] for line in lines(directory)] == ["c"]
    assert counts == {"failed": 2, "written": 1}


def test_no_line_follows_an_incomplete_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk fills up during a write, complete lines count as written and the file ends."""
    spool, counts = small_spool(tmp_path)
    spool.append(predictions(["a"]))
    real = os.write

    with monkeypatch.context() as disk:
        disk.setattr(
            os, "write", lambda descriptor, data: real(descriptor, data[: -len(data) // 3])
        )
        spool.append(predictions(["b", "c"]))
    monkeypatch.setattr("time.monotonic", lambda: float("inf"))
    spool.append(predictions(["d"]))

    assert [line["prediction_id"] for line in lines(tmp_path)] == ["a", "b", "d"]
    assert counts == {"written": 3, "failed": 1}


def test_the_unfinished_segment_of_a_killed_worker_is_removed(tmp_path: Path) -> None:
    """It is removed only once it is old."""
    left, fresh = tmp_path / "1-left.new", tmp_path / "2-fresh.new"
    left.touch()
    fresh.touch()
    os.utime(left, (0, 0))
    spool, _ = small_spool(tmp_path)

    spool.append(predictions(["a"]))

    assert not left.exists()
    assert fresh.exists()


def test_an_event_that_cannot_be_encoded_raises_nothing(tmp_path: Path) -> None:
    """It is counted as failed."""
    spool, counts = small_spool(tmp_path)

    spool.append([Prediction("a", 1.0, [object()], 5.0)])  # type: ignore[list-item]

    assert counts == {"failed": 1, "written": 0}
