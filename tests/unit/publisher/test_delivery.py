"""How batches are retried, divided and set aside."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.delivery import Backoff
from publisher.destination import Batch
from publisher.errors import RejectedError, StoppedError, UnknownModelError
from publisher.quarantine import Quarantine
from publisher.requeue import requeue
from publisher.spool import Spool
from tests.support.export import Harness, accept_all
from tests.support.spool import label, predictions, small_spool


@pytest.fixture(name="harness")
def _harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def rejecting(*ids: str, status: int = 422) -> Callable[[Batch], None]:
    """Return a check that rejects batches with any of these events."""

    def reject(batch: Batch) -> None:
        if any(event.key in ids for event in batch.events):
            raise RejectedError(status, "ph: too sour")

    return reject


def reject_all(_: Batch) -> None:
    """Reject everything."""
    raise RejectedError(413, "too large")


def test_only_the_rejected_events_of_a_batch_are_quarantined(harness: Harness) -> None:
    """Two bad events of 100 are quarantined with the reason; the others are accepted once."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions(map(str, range(100))))
    harness.destination.before_accept = rejecting("17", "60")

    harness.publisher.run_once()

    good = [str(number) for number in range(100) if number not in (17, 60)]
    assert sorted(harness.destination.ids("prediction")) == sorted(good)
    assert [
        (each["rejected"], json.loads(each["line"])["prediction_id"])
        for each in sorted(harness.quarantined(), key=lambda each: each["line"])
    ] == [("ph: too sour", "17"), ("ph: too sour", "60")]
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 2


@pytest.mark.parametrize("events", [10, 1_000])
def test_a_wholly_rejected_batch_stops_the_publisher_and_loses_nothing(
    harness: Harness, events: int
) -> None:
    """If nothing is accepted, the events are not at fault; after a dozen requests it stops."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions(map(str, range(events))))
    harness.destination.before_accept = reject_all

    with pytest.raises(StoppedError) as error:
        harness.publisher.run_once()

    assert error.value.reason == "rejected"
    assert harness.destination.requests <= 12
    assert not (harness.directory / "quarantine" / "rejected.jsonl").exists()
    assert (harness.directory / "quarantine" / "stopped.txt").read_text() == "too large\n"
    assert "too large" not in str(error.value)

    harness.destination.before_accept = accept_all
    harness.publisher.run_once()
    assert len(harness.destination.ids("prediction")) == events


def test_lone_events_that_are_rejected_in_a_row_stop_the_publisher(harness: Harness) -> None:
    """With little traffic every batch has one event: the tenth rejection in a row is systematic."""
    harness.destination.before_accept = reject_all
    for number in range(9):
        writer, _ = small_spool(harness.directory)
        writer.append(predictions([str(number)]))
        writer.close()
        harness.publisher.run_once()
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("x"))

    with pytest.raises(StoppedError):
        harness.publisher.run_once()

    assert len(harness.quarantined()) == 9


def test_an_accepted_event_ends_a_row_of_rejections(harness: Harness) -> None:
    """Bad events now and then go to quarantine, however many they become."""
    harness.destination.before_accept = rejecting("bad")
    for _ in range(15):
        writer, _ = small_spool(harness.directory)
        writer.append(predictions(["bad"]))
        writer.close()
        harness.publisher.run_once()
        writer, _ = small_spool(harness.directory)
        writer.append(predictions(["good"]))
        writer.close()
        harness.publisher.run_once()

    assert len(harness.quarantined()) == 15


def test_a_batch_that_is_too_large_is_divided(harness: Harness) -> None:
    """If a proxy takes 100 events at a time, all arrive and none is quarantined."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions(map(str, range(1_000))))

    def reject(batch: Batch) -> None:
        if len(batch.events) > 100:
            raise RejectedError(413, "too large")

    harness.destination.before_accept = reject
    harness.publisher.run_once()

    ids = harness.destination.ids("prediction")
    assert sorted(ids) == sorted(map(str, range(1_000)))


def test_events_accepted_of_a_rejected_batch_are_not_sent_again(harness: Harness) -> None:
    """If the destination returns fewer ids than it got, only the others are tried again."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("abcd"))
    batches: list[list[str]] = []

    def take_half(batch: Batch) -> None:
        batches.append([event.key for event in batch.events])
        if len(batch.events) > 1:
            raise RejectedError(207, "2 of 4", accepted=frozenset("ac"))

    harness.destination.before_accept = take_half
    harness.publisher.run_once()

    assert batches == [["a", "b", "c", "d"], ["b"], ["d"]]
    assert harness.value("publisher_events_total", kind="prediction") == 4
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 0


def test_a_conflict_on_a_single_event_counts_as_published(harness: Harness) -> None:
    """A conflict on a single event means that it was accepted in an earlier try."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))
    harness.destination.before_accept = rejecting("a", status=409)

    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["b"]
    assert harness.value("publisher_events_total", kind="prediction") == 2
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 0


def test_labels_of_an_unknown_model_do_not_stop_the_publisher(harness: Harness) -> None:
    """Labels of a version from before the export cannot be delivered, however many they are."""
    writer, _ = small_spool(harness.directory)
    writer.append([label(str(number), version="older") for number in range(20)])
    writer.append(predictions("a"))

    def reject(batch: Batch) -> None:
        if batch.model.version == "older":
            raise UnknownModelError(404, "there is no such model")

    harness.destination.before_accept = reject
    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a"]
    assert harness.value("publisher_quarantined_events_total", kind="label") == 20


def test_requeued_events_are_sent_again(harness: Harness) -> None:
    """Once the cause is fixed, rejected events go back into the spool; damaged lines stay."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("abc"))
    writer.append([label("a")])
    writer.close()
    (path,) = harness.directory.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b"\xff damaged\n")
    harness.destination.before_accept = rejecting("a")
    harness.publisher.run_once()
    assert len(harness.quarantined()) == 3

    moved = requeue(harness.directory)
    harness.destination.before_accept = accept_all
    harness.publisher.run_once()
    harness.publisher.run_once()

    assert (moved.events, moved.left) == (2, 1)
    assert sorted(harness.destination.ids("prediction")) == ["a", "b", "c"]
    assert harness.destination.ids("label") == ["a"]
    (left,) = harness.quarantined()
    assert left["line"].encode(errors="surrogateescape") == b"\xff damaged"
    assert requeue(harness.directory).events == 0


def test_a_spool_without_quarantine_has_nothing_to_requeue(tmp_path: Path) -> None:
    """Nothing is moved and nothing is created."""
    assert requeue(tmp_path).events == 0
    assert [*tmp_path.iterdir()] == []


def test_a_full_disk_does_not_stop_the_publisher(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Events are sent once and segments removed although no position can be stored."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))
    writer.append([label("a")])
    writer.close()

    def fail(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("publisher.spool.os.fsync", fail)
    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a", "b"]
    assert harness.destination.ids("label") == ["a"]
    assert [*harness.directory.glob("*.jsonl")] == []
    assert harness.value("publisher_position_failures_total") >= 1


def test_a_rejected_event_without_room_in_the_quarantine_is_counted_as_lost(
    harness: Harness,
) -> None:
    """The publisher goes on, and says that the event is lost."""
    (harness.directory / "quarantine").write_text("a file in the way")
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))
    harness.destination.before_accept = rejecting("a")

    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["b"]
    assert harness.value("publisher_lost_events_total") == 1


def test_pauses_double_up_to_the_longest() -> None:
    """Each failure doubles the pause, within jitter; a longer Retry-After is respected."""
    backoff = Backoff(1.0, 60.0)

    pauses = [backoff.next() for _ in range(50)]

    for number, pause in enumerate(pauses):
        assert min(60.0, 2.0**number) / 2 <= pause <= min(60.0, 2.0**number)
    assert backoff.next(at_least=300.0) == 300.0
    backoff.reset()
    assert backoff.next() <= 1.0


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    """The oldest rejected events make room for new ones, and are counted."""
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    (segment,) = Spool(tmp_path, keep=False).segments()
    directory = tmp_path / "quarantine"
    quarantine = Quarantine(directory, max_bytes=4_000)

    removed = [
        quarantine.add(segment.header, "prediction", str(number).encode(), "no")
        for number in range(100)
    ]

    files = sorted(path.name for path in directory.iterdir())
    assert files == ["header-abc.json", "rejected.jsonl", "rejected.older.jsonl"]
    kept = [
        json.loads(line)["line"]
        for name in ("rejected.older.jsonl", "rejected.jsonl")
        for line in (directory / name).read_text().splitlines()
    ]
    assert kept == [str(number) for number in range(sum(removed), 100)]
    assert sum((directory / name).stat().st_size for name in files[1:]) < 4_400
