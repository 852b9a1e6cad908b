"""What the publisher sends, in which order, and how it handles rejections."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from publisher.delivery import Backoff, Delivery
from publisher.errors import FatalError, InterruptedByStop, RejectedError, TransientError
from publisher.events import Event, ModelName
from publisher.metrics import Metrics
from publisher.publisher import Publisher
from publisher.quarantine import Quarantine
from publisher.spool import Header, Spool
from publisher.stop import Stop
from serving.events import Label, Prediction
from serving.spool import Limits
from tests.support.spool import label, predictions, small_spool


class Destination:
    """A Fiddler that stores what arrives; `before_accept` may raise."""

    def __init__(self) -> None:
        self.arrived: list[tuple[ModelName, str, list[Event]]] = []
        self.before_accept: Callable[[list[Event]], None] = lambda _: None

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Accept the events unless `before_accept` raises."""
        self.before_accept(events)
        self.arrived.append((name, "label" if update else "prediction", list(events)))

    def ids(self, kind: str) -> list[str]:
        """Return the ids of one kind in order of arrival."""
        batches = (events for _, each, events in self.arrived if each == kind)
        return [event["prediction_id"] for events in batches for event in events]


class Harness:
    """A publisher with an in-memory Fiddler and a clock that the test sets."""

    def __init__(self, directory: Path, *, label_delay: float = 0.0) -> None:
        self.directory = directory
        self.destination = Destination()
        self.registered: list[Header] = []
        self.spool = Spool(directory, keep=False)
        self.metrics = Metrics(self.spool)
        self.now = 0.0
        self.publisher = Publisher(
            self.spool,
            Delivery(
                self.destination,
                Quarantine(directory / "quarantine"),
                self.metrics,
                Backoff(0.001, 0.001),
                Stop(),
            ),
            self.registered.append,
            label_delay,
            clock=lambda: self.now,
        )

    def value(self, name: str, **labels: str) -> float:
        """Return a sample of the publisher's metrics."""
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def quarantined(self) -> list[dict[str, str]]:
        """Return the quarantined events."""
        path = self.directory / "quarantine" / "rejected.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(name="harness")
def _harness(tmp_path: Path) -> Harness:
    return Harness(tmp_path)


@contextmanager
def fails_once(error: Exception, destination: Destination) -> Iterator[None]:
    """Make the destination raise an error once."""
    errors = [error]

    def fail(_: list[Event]) -> None:
        if errors:
            raise errors.pop()

    destination.before_accept = fail
    yield
    assert not errors


def test_an_event_has_features_prediction_id_and_time(harness: Harness) -> None:
    """Integer features are integers, missing values are null, and the time is UTC."""
    writer, _ = small_spool(harness.directory)
    writer.append([Prediction("a", 1_764_000_000.25, (3.5, 2.0), 5.5)])
    writer.append([Prediction("b", 1_764_000_000.0, (3.5, math.nan), 5.5)])

    harness.publisher.run_once()

    ((model, _, events),) = harness.destination.arrived
    assert model == ModelName("loans", "abc")
    assert events == [
        {
            "ph": 3.5,
            "shelf": 2,
            "predicted_quality": 5.5,
            "prediction_id": "a",
            "predicted_at": "2025-11-24T16:00:00.250000Z",
        },
        {
            "ph": 3.5,
            "shelf": None,
            "predicted_quality": 5.5,
            "prediction_id": "b",
            "predicted_at": "2025-11-24T16:00:00.000000Z",
        },
    ]
    assert isinstance(events[0]["shelf"], int)


def test_a_label_is_an_update_of_its_event(harness: Harness) -> None:
    """An update holds only the event's id and the target."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))
    writer.append([label("a", 7.0)])

    harness.publisher.run_once()

    assert harness.destination.arrived[-1] == (
        ModelName("loans", "abc"),
        "label",
        [{"prediction_id": "a", "quality": 7.0}],
    )


def test_a_label_goes_to_the_version_that_predicted(harness: Harness) -> None:
    """A label spooled after a model change updates the event of the older version."""
    writer, _ = small_spool(harness.directory, version="new")
    writer.append([label("a", version="old"), label("b", version="new")])

    harness.publisher.run_once()

    assert [
        (model.version, events[0]["prediction_id"])
        for model, _, events in harness.destination.arrived
    ] == [
        ("old", "a"),
        ("new", "b"),
    ]


def test_a_label_waits_for_its_prediction_in_another_segment(harness: Harness) -> None:
    """If two workers spool both during a pass, the prediction is still published first."""
    (first, _), (second, _) = small_spool(harness.directory), small_spool(harness.directory)
    first.append(predictions("a"))
    second.append(predictions("b"))

    def spool_more(_: list[Event]) -> None:
        # The first segment has been read, so what is added to it is left to the next pass.
        harness.destination.before_accept = lambda _: None
        first.append(predictions("c"))
        second.append([label("c")])

    harness.destination.before_accept = spool_more
    harness.publisher.run_once()
    assert harness.destination.ids("label") == []
    harness.publisher.run_once()
    harness.publisher.run_once()

    kinds = [
        kind
        for _, kind, events in harness.destination.arrived
        for event in events
        if event["prediction_id"] == "c"
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


def test_a_pass_returns_whether_it_published_anything(harness: Harness) -> None:
    """A pass over an idle spool returns false and sends nothing."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))

    assert harness.publisher.run_once()
    assert not harness.publisher.run_once()
    assert harness.destination.ids("prediction") == ["a"]


def test_batches_have_at_most_1000_events(harness: Harness) -> None:
    """2,500 predictions are sent as batches of 1,000, 1,000 and 500."""
    writer, _ = small_spool(harness.directory, Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(2_500))))

    harness.publisher.run_once()

    assert [len(events) for _, _, events in harness.destination.arrived] == [1_000, 1_000, 500]
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


def test_only_the_rejected_events_of_a_batch_are_quarantined(harness: Harness) -> None:
    """Two bad events of 100 are quarantined with Fiddler's message; the others are accepted."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions(map(str, range(100))))

    def reject(events: list[Event]) -> None:
        if any(event["prediction_id"] in ("17", "60") for event in events):
            raise RejectedError(422, "ph: too sour")

    harness.destination.before_accept = reject
    harness.publisher.run_once()

    good = [str(number) for number in range(100) if number not in (17, 60)]
    assert sorted(harness.destination.ids("prediction")) == sorted(good)
    assert [
        (each["rejected"], json.loads(each["line"])["prediction_id"])
        for each in harness.quarantined()
    ] == [
        ("ph: too sour", "17"),
        ("ph: too sour", "60"),
    ]
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 2


def test_a_conflict_on_a_single_event_counts_as_published(harness: Harness) -> None:
    """A conflict on a single event means that Fiddler accepted it in an earlier try."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("ab"))

    def reject(events: list[Event]) -> None:
        if any(event["prediction_id"] == "a" for event in events):
            raise RejectedError(409, "it exists")

    harness.destination.before_accept = reject
    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["b"]
    assert harness.value("publisher_events_total", kind="prediction") == 2
    assert harness.value("publisher_quarantined_events_total", kind="prediction") == 0


def test_an_unreadable_line_is_quarantined(harness: Harness) -> None:
    """Lines that are no events are quarantined; the others of the segment are published."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))
    writer.append([Label("a", 1.0, "abc", 5.0)])
    writer.close()
    (path,) = harness.directory.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"prediction_id":1}\n\xff\xff\n{"label_of":3}\n[]\n')

    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a"]
    assert harness.destination.ids("label") == ["a"]
    assert len(harness.quarantined()) == 4
    assert not path.exists()


def test_events_accepted_before_a_stop_are_not_sent_again(harness: Harness) -> None:
    """The position is stored after each batch, so a restart continues with the next one."""
    writer, _ = small_spool(harness.directory, Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(1_500))))

    def reject(events: list[Event]) -> None:
        if len(events) == 500:
            raise InterruptedByStop

    harness.destination.before_accept = reject
    with pytest.raises(InterruptedByStop):
        harness.publisher.run_once()
    first = harness.destination.ids("prediction")
    harness.spool.close()

    again = Harness(harness.directory)
    again.publisher.run_once()

    assert first + again.destination.ids("prediction") == [str(number) for number in range(1_500)]


def test_a_fatal_error_loses_no_event(harness: Harness) -> None:
    """Events stay in the spool when access is denied and are sent by a later pass."""
    writer, _ = small_spool(harness.directory)
    writer.append(predictions("a"))

    with fails_once(FatalError("denied", "no"), harness.destination), pytest.raises(FatalError):
        harness.publisher.run_once()
    harness.publisher.run_once()

    assert harness.destination.ids("prediction") == ["a"]


def test_every_version_is_registered_before_its_events(harness: Harness) -> None:
    """The header of each segment is registered, because the model is created from it."""
    for version in ("one", "two"):
        writer, _ = small_spool(harness.directory, version=version)
        writer.append(predictions(version[:1]))

    harness.publisher.run_once()

    assert [header.version for header in harness.registered] == ["one", "two"]
    assert [model.version for model, _, _ in harness.destination.arrived] == ["one", "two"]


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
    assert harness.value("publisher_backlog_age_seconds") == 0

    harness.now = 10.0
    harness.publisher.run_once()
    assert harness.value("publisher_backlog_events") == 0
    assert harness.value("publisher_backlog_bytes") == 0


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
    """The oldest rejected events are dropped to make room for new ones."""
    quarantine = Quarantine(tmp_path, max_bytes=2_000)

    for number in range(100):
        quarantine.add(str(number).encode(), "no")

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["rejected.jsonl", "rejected.older.jsonl"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_200
    last = (tmp_path / "rejected.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"rejected": "no", "line": "99"}
