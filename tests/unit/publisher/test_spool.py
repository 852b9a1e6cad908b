"""The publisher's side of the spool: what it reads, what it notes, and what it removes."""

import json
from pathlib import Path

import pytest

from publisher.spool import Position, Segment, Spool, SpoolError, take
from serving.spool import Limits
from tests.support.spool import label, predictions, small_spool

EACH_ITS_SEGMENT = Limits(max_bytes=1_000_000, segment_bytes=100_000, segment_seconds=0.0)


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
    """Return the ids that lines are about."""
    return [next(iter(json.loads(line).values())) for line in lines]


def test_both_kinds_are_read_apart(tmp_path: Path) -> None:
    """One cursor passes over labels, the other over predictions; both end at the same offset."""
    segment = written(tmp_path, "abc", "a")
    size = segment.size()

    first = take(segment.path, segment.start, size, 100, labels=False)
    second = take(segment.path, segment.start, size, 100, labels=True)

    assert ids(first.lines) == ["a", "b", "c"]
    assert ids(second.lines) == ["a"]
    assert first.offset == second.offset == size
    assert first.passed == second.passed == 4


def test_a_batch_is_bounded_and_goes_on_where_it_ended(tmp_path: Path) -> None:
    """Batches follow each other without a gap or an overlap."""
    segment = written(tmp_path, "abcde")
    at, batches = segment.start, []

    while at < segment.size():
        taken = take(segment.path, at, segment.size(), 2, labels=False)
        batches.append("".join(ids(taken.lines)))
        at = taken.offset

    assert batches == ["ab", "cd", "e"]


def test_a_torn_last_line_is_left(tmp_path: Path) -> None:
    """What has no line feed yet is no event yet, wherever the cut is."""
    segment = written(tmp_path, "ab")
    content = segment.path.read_bytes()
    last = content.rstrip().rindex(b"\n") + 1

    for end in range(last, len(content)):
        segment.path.write_bytes(content[:end])
        taken = take(segment.path, segment.start, segment.size(), 100, labels=False)
        assert ids(taken.lines) == ["a"]
        assert taken.offset == last


def test_long_segments_are_read_in_pieces(tmp_path: Path) -> None:
    """Lines across the pieces' ends are whole."""
    spool, _ = small_spool(tmp_path, Limits(100_000_000, 100_000_000, 60.0))
    numbers = [str(number) for number in range(30_000)]
    spool.append(predictions(numbers))
    (segment,) = Spool(tmp_path, keep=False).segments()

    taken = take(segment.path, segment.start, segment.size(), 100_000, labels=False)

    assert segment.size() > 2_500_000
    assert ids(taken.lines) == numbers


def test_positions_survive(tmp_path: Path) -> None:
    """A publisher that starts again goes on where the last one ended."""
    segment = written(tmp_path, "abc", "a")
    reader = Spool(tmp_path, keep=False)
    reader.passed_predictions(segment, take(segment.path, segment.start, 10**9, 9, labels=False))
    reader.passed_labels(segment, take(segment.path, segment.start, 10**9, 9, labels=True))
    noted = reader.position(segment)
    reader.close()

    assert Spool(tmp_path, keep=False).position(segment) == noted
    assert noted == Position(segment.size(), segment.size(), lines=4, labels_waiting=0)


@pytest.mark.parametrize("note", ["", "[]", "{", '{"a": 1}', '{"a": {"b": 1}}'])
def test_an_unreadable_note_means_from_the_start(tmp_path: Path, note: str) -> None:
    """What cannot be read loses nothing: everything is sent again."""
    segment = written(tmp_path)
    (tmp_path / "position.json").write_text(note)

    assert Spool(tmp_path, keep=False).position(segment) == Position(segment.start, segment.start)


def test_a_published_segment_is_removed(tmp_path: Path) -> None:
    """Once both cursors are at its end and its worker has closed it, a segment goes."""
    segment = written(tmp_path, "a", "a")
    reader = Spool(tmp_path, keep=False)

    assert not reader.finish(segment)
    reader.passed_predictions(segment, take(segment.path, segment.start, 10**9, 9, labels=False))
    assert not reader.finish(segment)
    reader.passed_labels(segment, take(segment.path, segment.start, 10**9, 9, labels=True))
    assert reader.finish(segment)

    assert reader.segments() == []
    assert json.loads((tmp_path / "position.json").read_text()) == {}


def test_a_kept_segment_is_renamed(tmp_path: Path) -> None:
    """With keep, a published segment stays, under a name that is not read again."""
    segment = written(tmp_path, "a")
    reader = Spool(tmp_path, keep=True)
    everything = take(segment.path, segment.start, 10**9, 9, labels=False)
    reader.passed_predictions(segment, everything)
    reader.passed_labels(segment, everything)

    assert reader.finish(segment)

    assert reader.segments() == []
    assert [path.name for path in tmp_path.glob("*.jsonl")] == [
        segment.path.stem + ".published.jsonl"
    ]


def test_a_segment_that_may_grow_stays(tmp_path: Path) -> None:
    """As long as its worker lives, a segment stays, however much of it is published."""
    spool, _ = small_spool(tmp_path)
    spool.append(predictions("a"))
    reader = Spool(tmp_path, keep=False)
    (segment,) = reader.segments()
    everything = take(segment.path, segment.start, 10**9, 9, labels=False)
    reader.passed_predictions(segment, everything)
    reader.passed_labels(segment, everything)

    assert not reader.finish(segment)
    spool.close()
    assert reader.finish(segment)


def test_a_torn_line_of_a_dead_worker_does_not_keep_a_segment(tmp_path: Path) -> None:
    """What a killed worker tore stays behind with nobody waiting for the rest of it."""
    segment = written(tmp_path, "ab")
    segment.path.write_bytes(segment.path.read_bytes()[:-5])
    reader = Spool(tmp_path, keep=False)
    everything = take(segment.path, segment.start, segment.size(), 9, labels=False)
    reader.passed_predictions(segment, everything)
    reader.passed_labels(segment, everything)

    assert reader.finish(segment)


def test_a_dropped_segment_has_no_events(tmp_path: Path) -> None:
    """What a worker dropped to hold the bound is simply not there."""
    segment = written(tmp_path)
    segment.path.unlink()

    assert segment.size() == 0
    assert take(segment.path, segment.start, 10**9, 9, labels=False).lines == []
    assert Spool(tmp_path, keep=False).finish(segment)


@pytest.mark.parametrize("first", ["", "no json\n", '{"spool":2}\n', '{"prediction_id":"a"}\n'])
def test_a_segment_without_header_is_set_aside(tmp_path: Path, first: str) -> None:
    """What this publisher cannot read is kept for a person, and is not in the way."""
    (tmp_path / "1-a.jsonl").write_text(first)
    written(tmp_path)

    assert len(Spool(tmp_path, keep=False).segments()) == 1
    assert (tmp_path / "1-a.unreadable").read_text() == first


def test_one_publisher_reads_a_spool(tmp_path: Path) -> None:
    """A second one is refused, in one line."""
    first = Spool(tmp_path, keep=False)

    with pytest.raises(SpoolError, match="another publisher reads this spool"):
        Spool(first.directory, keep=False)


def test_segments_come_in_order_of_time(tmp_path: Path) -> None:
    """The oldest segment is first, whichever worker wrote it."""
    (one, _), (other, _) = small_spool(tmp_path, EACH_ITS_SEGMENT), small_spool(tmp_path)
    one.append(predictions("a"))
    other.append(predictions("b"))
    one.append(predictions("c"))

    reader = Spool(tmp_path, keep=False)

    found = [
        take(each.path, each.start, each.size(), 9, labels=False) for each in reader.segments()
    ]
    assert [ids(taken.lines) for taken in found] == [["a"], ["b"], ["c"]]
