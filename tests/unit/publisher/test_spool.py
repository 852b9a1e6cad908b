"""The publisher's side of the spool: reading, positions and removal of segments."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.spool import LinesRead, Position, Segment, Spool, SpoolError, read_lines
from serving.spool_room import Limits
from tests.support.spool import label, predictions, small_spool

SEGMENT_PER_BATCH = Limits(max_bytes=1_000_000, segment_bytes=100_000, segment_seconds=0.0)


def written(directory: Path, ids: str = "ab", labelled: str = "") -> Segment:
    """Write a closed segment of predictions, then labels; return it as the publisher sees it."""
    spool, _ = small_spool(directory)
    spool.append(predictions(ids))
    spool.append([label(each) for each in labelled])
    spool.close()
    reader = Spool(directory, keep=False)
    (segment,) = reader.segments()
    reader.close()
    return segment


def ids(lines: list[bytes]) -> list[str]:
    """Return the prediction id of each line."""
    return [next(iter(json.loads(line).values())) for line in lines]


def read_all(segment: Segment, *, labels: bool = False) -> LinesRead:
    """Return all predictions (or labels) of a segment."""
    return read_lines(segment.path, segment.start, 10**9, 9, labels=labels)


def test_predictions_and_labels_are_read_separately(tmp_path: Path) -> None:
    """Each cursor skips the other kind of line, and both end at the same offset."""
    segment = written(tmp_path, "abc", "a")
    size = segment.size()

    first = read_lines(segment.path, segment.start, size, 100, labels=False)
    second = read_lines(segment.path, segment.start, size, 100, labels=True)

    assert ids(first.lines) == ["a", "b", "c"]
    assert ids(second.lines) == ["a"]
    assert first.offset == second.offset == size
    assert first.passed == second.passed == 4


def test_consecutive_batches_neither_overlap_nor_leave_a_gap(tmp_path: Path) -> None:
    """Batches of at most two lines cover all five lines once."""
    segment = written(tmp_path, "abcde")
    at, batches = segment.start, []

    while at < segment.size():
        found = read_lines(segment.path, at, segment.size(), 2, labels=False)
        batches.append("".join(ids(found.lines)))
        at = found.offset

    assert batches == ["ab", "cd", "e"]


def test_an_incomplete_last_line_is_not_read(tmp_path: Path) -> None:
    """A line without a line feed is not read, wherever it is cut."""
    segment = written(tmp_path, "ab")
    content = segment.path.read_bytes()
    last = content.rstrip().rindex(b"\n") + 1

    for end in range(last, len(content)):
        segment.path.write_bytes(content[:end])
        found = read_lines(segment.path, segment.start, segment.size(), 100, labels=False)
        assert ids(found.lines) == ["a"]
        assert found.offset == last


def test_lines_across_chunk_boundaries_are_complete(tmp_path: Path) -> None:
    """A segment of several chunks yields every line in full."""
    spool, _ = small_spool(tmp_path, limits=Limits(100_000_000, 100_000_000, 60.0))
    numbers = [str(number) for number in range(30_000)]
    spool.append(predictions(numbers))
    (segment,) = Spool(tmp_path, keep=False).segments()

    found = read_lines(segment.path, segment.start, segment.size(), 100_000, labels=False)

    assert segment.size() > 2_500_000
    assert ids(found.lines) == numbers


def test_positions_survive_a_restart(tmp_path: Path) -> None:
    """A restarted publisher continues at the stored position."""
    segment = written(tmp_path, "abc", "a")
    reader = Spool(tmp_path, keep=False)
    reader.advance(segment, "prediction", read_all(segment))
    reader.advance(segment, "label", read_all(segment, labels=True))
    stored = reader.position(segment)
    reader.close()

    assert Spool(tmp_path, keep=False).position(segment) == stored
    assert stored == Position(segment.size(), segment.size(), lines=4, labels_waiting=0)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": {"b": 1}}'])
def test_an_unreadable_position_file_resets_all_positions(tmp_path: Path, content: str) -> None:
    """Without valid positions everything is published again, so that nothing is lost."""
    segment = written(tmp_path)
    (tmp_path / "position.json").write_text(content)

    assert Spool(tmp_path, keep=False).position(segment) == Position(segment.start, segment.start)


def test_a_published_segment_is_removed(tmp_path: Path) -> None:
    """A closed segment is removed once both cursors are at its end."""
    segment = written(tmp_path, "a", "a")
    reader = Spool(tmp_path, keep=False)

    assert not reader.finish(segment)
    reader.advance(segment, "prediction", read_all(segment))
    assert not reader.finish(segment)
    reader.advance(segment, "label", read_all(segment, labels=True))
    assert reader.finish(segment)

    assert reader.segments() == []
    assert json.loads((tmp_path / "position.json").read_text()) == {}


def test_a_kept_segment_is_renamed(tmp_path: Path) -> None:
    """With keep=True a published segment gets a name under which it is not read again."""
    segment = written(tmp_path, "a")
    reader = Spool(tmp_path, keep=True)
    everything = read_all(segment)
    reader.advance(segment, "prediction", everything)
    reader.advance(segment, "label", everything)

    assert reader.finish(segment)

    assert reader.segments() == []
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [
        segment.path.stem + ".published.jsonl"
    ]


def test_an_open_segment_is_not_removed(tmp_path: Path) -> None:
    """A published segment is not removed while its worker may still write to it."""
    spool, _ = small_spool(tmp_path)
    spool.append(predictions("a"))
    reader = Spool(tmp_path, keep=False)
    (segment,) = reader.segments()
    everything = read_all(segment)
    reader.advance(segment, "prediction", everything)
    reader.advance(segment, "label", everything)

    assert not reader.finish(segment)
    spool.close()
    assert reader.finish(segment)


def test_an_incomplete_line_of_a_dead_worker_does_not_keep_a_segment(tmp_path: Path) -> None:
    """A segment that ends in an incomplete line is removed once its worker has died."""
    segment = written(tmp_path, "ab")
    segment.path.write_bytes(segment.path.read_bytes()[:-5])
    reader = Spool(tmp_path, keep=False)
    everything = read_all(segment)
    reader.advance(segment, "prediction", everything)
    reader.advance(segment, "label", everything)

    assert reader.finish(segment)


def test_a_dropped_segment_has_no_events(tmp_path: Path) -> None:
    """A segment that a worker dropped to keep the size limit is treated as empty."""
    segment = written(tmp_path)
    segment.path.unlink()

    assert segment.size() == 0
    assert read_all(segment).lines == []
    assert Spool(tmp_path, keep=False).finish(segment)


@pytest.mark.parametrize("first", ["", "no json\n", '{"spool":1}\n', '{"prediction_id":"a"}\n'])
def test_a_segment_without_header_is_set_aside(tmp_path: Path, first: str) -> None:
    """A segment without a valid header is renamed and counted, and does not block the others."""
    (tmp_path / "1-a.jsonl").write_text(first)
    written(tmp_path)
    reader = Spool(tmp_path, keep=False)

    assert len(reader.segments()) == 1
    assert (tmp_path / "1-a.unreadable").read_text() == first
    assert reader.unreadable() == 1


def test_files_are_readable_by_their_user_only(tmp_path: Path) -> None:
    """Segments hold rows, which may be confidential."""
    segment = written(tmp_path)

    assert segment.path.stat().st_mode & 0o777 == 0o600


def test_only_one_publisher_reads_a_spool(tmp_path: Path) -> None:
    """A second publisher gets a one-line SpoolError."""
    first = Spool(tmp_path, keep=False)

    with pytest.raises(SpoolError, match="another publisher reads this spool"):
        Spool(first.directory, keep=False)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_spool_that_is_not_writable_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Sent segments could not be removed, so the publisher does not start."""
    monkeypatch.setattr("publisher.spool.os.open", _failing(code))

    with pytest.raises(SpoolError, match=f"^{tmp_path}: {os.strerror(code)}$"):
        Spool(tmp_path, keep=False)


def test_a_full_disk_does_not_keep_the_publisher_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes room by removing what it has sent."""
    monkeypatch.setattr("publisher.spool.os.open", _failing(errno.ENOSPC))

    assert Spool(tmp_path, keep=False).segments() == []


def _failing(code: int) -> Callable[[Path, int], int]:
    """Return an os.open that fails to create files."""
    real = os.open

    def fail(path: Path, flags: int) -> int:
        if flags & os.O_CREAT:
            raise OSError(code, os.strerror(code))
        return real(path, flags)

    return fail


def test_segments_come_in_order_of_time(tmp_path: Path) -> None:
    """The oldest segment is first, whichever worker wrote it."""
    (first, _), (second, _) = small_spool(tmp_path, limits=SEGMENT_PER_BATCH), small_spool(tmp_path)
    first.append(predictions("a"))
    second.append(predictions("b"))
    first.append(predictions("c"))

    reader = Spool(tmp_path, keep=False)

    reads = [read_all(each) for each in reader.segments()]
    assert [ids(found.lines) for found in reads] == [["a"], ["b"], ["c"]]
