"""Labels of predictions in quarantine: they wait there, and both are sent again together."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from publisher.destination import Batch
from publisher.errors import RejectedError
from publisher.events import Kind
from publisher.header import Header
from publisher.quarantine import CURRENT, OLDER, Quarantine
from publisher.requeue import requeue
from tests.support.export import Harness, accept_all
from tests.support.spool import label, predictions, small_spool

HEADER = Header.model_construct(spool=1, model="loans", version="abc")
DELAY = 300.0


def rejecting(*ids: str) -> Callable[[Batch], None]:
    """Return a check that rejects predictions with any of these ids."""

    def reject(batch: Batch) -> None:
        if batch.kind == "prediction" and any(event.key in ids for event in batch.events):
            raise RejectedError(422, "ph: too sour")

    return reject


@pytest.fixture(name="harness")
def _harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path, label_delay=DELAY)


def publish(harness: Harness, passes: int = 2) -> None:
    """Publish, and again after the delay of labels."""
    for _ in range(passes):
        harness.publisher.run_once()
        harness.now += DELAY


def test_a_label_waits_in_quarantine_with_its_prediction(harness: Harness) -> None:
    """The destination would ignore it; the other labels go on."""
    writer, _ = small_spool(harness.directory)
    writer.append([*predictions("ab"), label("a"), label("b")])
    harness.destination.before_accept = rejecting("a")

    publish(harness)

    assert harness.destination.ids("prediction") == ["b"]
    assert harness.destination.ids("label") == ["b"]
    assert [(each["kind"], each["rejected"]) for each in harness.quarantined()] == [
        ("prediction", "ph: too sour"),
        ("label", "its prediction is here"),
    ]


def test_a_label_arrives_after_its_prediction_was_sent_again(harness: Harness) -> None:
    """The prediction is first, and the destination has the usual time to store it."""
    writer, _ = small_spool(harness.directory)
    writer.append([*predictions("ab"), label("a")])
    harness.destination.before_accept = rejecting("a")
    publish(harness)
    harness.destination.before_accept = accept_all
    assert requeue(harness.directory).events == 2

    harness.publisher.run_once()
    assert harness.destination.ids("prediction") == ["b", "a"]
    assert harness.destination.ids("label") == []

    publish(harness)
    assert harness.destination.ids("label") == ["a"]
    assert harness.quarantined() == []


def test_a_label_in_the_spool_waits_for_a_prediction_that_is_sent_again(harness: Harness) -> None:
    """It could have been sent at once, had its prediction not just left the quarantine."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))
    harness.destination.before_accept = rejecting("a")
    harness.publisher.run_once()
    writer.append([label("a")])
    harness.publisher.run_once()
    harness.now += DELAY
    harness.destination.before_accept = accept_all
    requeue(harness.directory)

    harness.publisher.run_once()
    assert harness.destination.ids("label") == []

    publish(harness)
    assert harness.destination.ids("prediction") == ["b", "a"]
    assert harness.destination.ids("label") == ["a"]


def test_the_next_publisher_knows_what_is_in_quarantine(tmp_path: Path) -> None:
    """A label that comes after a restart is kept as well."""
    first = Harness(tmp_path)
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("ab"))
    first.destination.before_accept = rejecting("a")
    first.publisher.run_once()
    first.spool.close()
    second = Harness(tmp_path)
    writer.append([label("a")])

    publish(second)

    assert second.destination.ids("label") == []
    assert [each["kind"] for each in second.quarantined()] == ["prediction", "label"]


def add(quarantine: Quarantine, key: str, kind: Kind = "prediction", reason: str = "no") -> None:
    """Add an event."""
    field = "prediction_id" if kind == "prediction" else "label_of"
    quarantine.add(HEADER, kind, json.dumps({field: key}).encode(), reason)


def test_only_predictions_that_can_be_sent_again_hold_their_labels(tmp_path: Path) -> None:
    """A damaged line never leaves, so nobody would send the label again."""
    quarantine = Quarantine(tmp_path)
    add(quarantine, "a")
    add(quarantine, "b", "label")
    add(quarantine, "c", reason="damaged: time: float_type")
    with (tmp_path / CURRENT).open("a") as file:
        file.write('not JSON\n[1]\n{"kind":"prediction","rejected":"","line":"{"}\n')

    for each in (quarantine, Quarantine(tmp_path)):
        assert not each.refresh()
        assert [each.holds(key) for key in "abc"] == [True, False, False]


def test_an_older_file_that_was_replaced_holds_nothing(tmp_path: Path) -> None:
    """Its predictions are lost, and counted so."""
    quarantine = Quarantine(tmp_path, max_bytes=2)
    for key in "abc":
        add(quarantine, key)

    assert (tmp_path / OLDER).exists()
    assert quarantine.refresh()
    assert [quarantine.holds(key) for key in "abc"] == [False, True, True]
