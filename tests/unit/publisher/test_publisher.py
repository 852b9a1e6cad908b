"""What the publisher sends, and in which order."""

from pathlib import Path

import pytest

from publisher.destination import Batch
from publisher.errors import InterruptedByStop, Reason, StoppedError, TransientError
from publisher.events import ModelName
from serving.events import Label
from serving.spool_room import Limits
from tests.support.export import Harness, accept_all, fails_once
from tests.support.spool import label, predictions, small_spool


@pytest.fixture(name="harness")
def _harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


def test_a_label_goes_to_the_version_that_predicted(harness: Harness) -> None:
    """A label spooled after a model change updates the event of the older version."""
    writer, _ = small_spool(harness.directory, version="new")
    writer.append([label("a", version="old"), label("b", version="new")])

    harness.publisher.run_once()

    assert [(batch.model, batch.events[0].key) for batch in harness.destination.arrived] == [
        (ModelName("loans", "old"), "a"),
        (ModelName("loans", "new"), "b"),
    ]


def test_a_label_waits_for_its_prediction_in_another_segment(harness: Harness) -> None:
    """If two workers spool both during a pass, the prediction is still published first."""
    (first, _), (second, _) = small_spool(harness.directory), small_spool(harness.directory)
    first.append(predictions("a"))
    second.append(predictions("b"))

    def spool_more(_: Batch) -> None:
        # The first segment has been read, so what is added to it is left to the next pass.
        harness.destination.before_accept = accept_all
        first.append(predictions("c"))
        second.append([label("c")])

    harness.destination.before_accept = spool_more
    harness.publisher.run_once()
    assert harness.destination.ids("label") == []
    harness.publisher.run_once()
    harness.publisher.run_once()

    kinds = [
        batch.kind
        for batch in harness.destination.arrived
        for event in batch.events
        if event.key == "c"
    ]
    assert kinds == ["prediction", "label"]


def test_labels_are_sent_after_the_label_delay(tmp_path: Path) -> None:
    """Labels are sent once the delay since the acceptance of their predictions has passed."""
    harness = Harness(tmp_path, label_delay=10.0)
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    writer.append([label("a")])

    harness.publisher.run_once()
    harness.now = 9.9
    harness.publisher.run_once()
    assert harness.destination.ids("label") == []

    harness.now = 10.0
    harness.publisher.run_once()
    assert harness.destination.ids("label") == ["a"]


def test_labels_wait_for_the_predictions_of_other_replicas(harness: Harness) -> None:
    """A label whose prediction another replica still holds is sent after that replica is done."""
    writer, _ = small_spool(harness.directory)
    writer.append([label("a prediction of another replica")])
    harness.replicas.time = 1_800_000_000.0 - 600

    harness.publisher.run_once()
    assert harness.destination.ids("label") == []
    assert harness.value("publisher_backlog_events") == 1

    harness.replicas.time = 1_800_000_010.0
    harness.publisher.run_once()
    assert harness.destination.ids("label") == ["a prediction of another replica"]


def test_labels_wait_for_a_replica_that_does_not_answer(harness: Harness) -> None:
    """Predictions go on meanwhile, and the failure is counted."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))
    writer.append([label("a")])
    harness.replicas.time = None

    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a"]
    assert harness.destination.ids("label") == []
    assert harness.value("publisher_failures_total", cause="peer") == 1


def test_a_pass_returns_whether_it_published_anything(harness: Harness) -> None:
    """A pass over an idle spool returns false and sends nothing."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))

    assert harness.publisher.run_once()
    assert not harness.publisher.run_once()
    assert harness.destination.ids("prediction") == ["a"]


def test_batches_are_as_large_as_the_destination_allows(harness: Harness) -> None:
    """2,500 predictions are sent as batches of 1,000, 1,000 and 500."""
    writer, _ = small_spool(harness.directory, limits=Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(2_500))))

    harness.publisher.run_once()

    assert [len(batch.events) for batch in harness.destination.arrived] == [1_000, 1_000, 500]
    assert harness.value("publisher_events_total", kind="prediction") == 2_500


@pytest.mark.parametrize("cause", ["connection", "throttled", "server_error", "timeout"])
def test_a_transient_error_is_retried(harness: Harness, cause: str) -> None:
    """The failure is counted by its cause, and all events are sent in order."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))

    with fails_once(TransientError(cause, "not now"), harness.destination):  # type: ignore[arg-type]
        harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a", "b"]
    assert harness.value("publisher_failures_total", cause=cause) == 1


def test_damaged_lines_are_quarantined(harness: Harness) -> None:
    """Lines that are no events are set aside; the others of the segment are published."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))
    writer.append([Label("a", 1.0, "abc", 5.0)])
    writer.close()
    (path,) = harness.directory.glob("*.jsonl")
    good = b'{"prediction_id":"b","time":1764000000.25,"features":[3.5,2.0],"prediction":5.5}\n'
    damaged = [
        b'{"prediction_id":1}\n',
        b"\xff\xff\n",
        b'{"label_of":3}\n',
        b"[]\n",
        good.replace(b"00.25", b"00e25"),  # a time beyond the year 10000
        good.replace(b"1764", b"-764"),
        good.replace(b"5.5}", b"5e999}"),
        good.replace(b"3.5,", b""),
        b'{"label_of":"a","time":1e99,"version":"abc","actual":1.0}\n',
        b"[" * 100_000 + b"\n",
    ]
    path.write_bytes(path.read_bytes() + b"".join(damaged) + good)

    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a", "b"]
    assert harness.destination.ids("label") == ["a"]
    kept = {each["line"].encode(errors="surrogateescape") + b"\n" for each in harness.quarantined()}
    assert kept == {*damaged}
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 8
    assert harness.value("publisher_quarantined_events_total", kind="label") == 2
    assert not path.exists()


def test_no_flipped_bit_stops_the_publisher(harness: Harness) -> None:
    """With any one bit of a line flipped, the other lines arrive and the segment is finished."""
    good = b'{"prediction_id":"b","time":1764000000.25,"features":[3.5,2.0],"prediction":5.5}\n'
    flipped = [
        good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        for at in range(len(good))
        for bit in range(8)
    ]
    writer, _ = small_spool(harness.directory, limits=Limits(10**7, 10**7, 60.0))
    writer.append(predictions("a"))
    writer.close()
    (path,) = harness.directory.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b"".join(line + good for line in flipped))

    harness.publisher.run_once()

    assert harness.destination.ids("prediction").count("a") == 1
    # A flipped line feed joins two lines.
    assert harness.destination.ids("prediction").count("b") >= len(flipped) - 8
    assert not path.exists()


def test_events_accepted_before_a_stop_are_not_sent_again(harness: Harness) -> None:
    """The position is stored after each batch, so a restart continues with the next one."""
    writer, _ = small_spool(harness.directory, limits=Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(1_500))))

    def reject(batch: Batch) -> None:
        if len(batch.events) == 500:
            raise InterruptedByStop

    harness.destination.before_accept = reject
    with pytest.raises(InterruptedByStop):
        harness.publisher.run_once()
    first = harness.destination.ids("prediction")
    harness.spool.close()

    again = Harness(harness.directory)
    again.publisher.run_once()

    assert first + again.destination.ids("prediction") == [str(number) for number in range(1_500)]


@pytest.mark.parametrize("reason", ["denied", "schema"])
def test_a_stop_loses_no_event(harness: Harness, reason: Reason) -> None:
    """Events stay in the spool while the publisher has stopped and are sent by a later pass."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))
    writer.append([label("a")])

    with (
        fails_once(StoppedError(reason, "no"), harness.destination),
        pytest.raises(StoppedError),
    ):
        harness.publisher.run_once()
    assert harness.destination.ids("label") == []
    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a"]
    assert harness.destination.ids("label") == ["a"]


def test_an_error_of_one_version_does_not_delay_the_others(harness: Harness) -> None:
    """Predictions of a version whose schema does not fit wait; those of the next one are sent."""
    for version in ("one", "two"):
        writer, _ = small_spool(harness.directory, version=version)
        writer.append(predictions(version[:1]))

    def reject(batch: Batch) -> None:
        if batch.model.version == "one":
            raise StoppedError("schema", "no")

    harness.destination.before_accept = reject
    with pytest.raises(StoppedError):
        harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["t"]


def test_every_version_is_registered_before_its_events(harness: Harness) -> None:
    """The header of each segment is registered, because the model is created from it."""
    for version in ("one", "two"):
        writer, _ = small_spool(harness.directory, version=version)
        writer.append(predictions(version[:1]))

    harness.publisher.run_once()

    assert [header.version for header in harness.destination.registered] == ["one", "two"]
    assert [batch.model.version for batch in harness.destination.arrived] == ["one", "two"]


def test_the_backlog_counts_unpublished_events(tmp_path: Path) -> None:
    """A scrape reports bytes, events and age of the unpublished predictions and labels."""
    harness = Harness(tmp_path, label_delay=10.0)
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("abc"))
    writer.append([label("a")])
    writer.close()
    assert harness.value("publisher_backlog_events") == 4
    assert harness.value("publisher_backlog_bytes") > 0
    assert harness.value("publisher_backlog_age_seconds") > 1_000_000

    harness.publisher.run_once()
    assert harness.value("publisher_backlog_events") == 1
    # The label's.
    assert harness.value("publisher_backlog_age_seconds") > 1_000_000

    harness.now = 10.0
    harness.publisher.run_once()
    assert harness.value("publisher_backlog_events") == 0
    assert harness.value("publisher_backlog_bytes") == 0
    assert harness.value("publisher_backlog_age_seconds") == 0


def test_a_label_that_waits_on_purpose_is_not_old(tmp_path: Path) -> None:
    """The delay before labels is no backlog's age, or an alert would fire in normal operation."""
    harness = Harness(tmp_path, label_delay=10.0**10)
    writer, _ = small_spool(tmp_path)
    writer.append([label("a")])

    harness.publisher.run_once()

    assert harness.value("publisher_backlog_events") == 1
    assert harness.value("publisher_backlog_age_seconds") == 0


def test_a_dropped_segment_is_not_in_the_backlog(harness: Harness) -> None:
    """A segment that a worker dropped is not counted and does not block the others."""
    first, _ = small_spool(harness.directory)
    first.append(predictions("a"))
    assert harness.value("publisher_backlog_events") == 1
    (path,) = harness.directory.glob("*.jsonl")
    second, _ = small_spool(harness.directory)
    second.append(predictions("b"))

    path.unlink()

    assert harness.value("publisher_backlog_events") == 1
    harness.publisher.run_once()
    assert harness.destination.ids("prediction") == ["b"]


def test_labels_wait_for_a_segment_that_only_a_newer_publisher_understands(
    harness: Harness,
) -> None:
    """It may hold their predictions; nothing of it is lost, and it shows in the metrics."""
    writer, _ = small_spool(harness.directory)
    writer.append([label("a")])
    (harness.directory / "9-newer.jsonl").write_text('{"spool":2,"shape":"new"}\n{"p":"a"}\n')

    harness.publisher.run_once()

    assert harness.destination.ids("label") == []
    assert harness.value("publisher_unreadable_segments", reason="unknown") == 1
    assert harness.value("publisher_backlog_events") == 2
    assert (harness.directory / "9-newer.jsonl").exists()
