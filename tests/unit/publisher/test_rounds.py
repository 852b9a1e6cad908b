"""What the publisher sends, in which order, and what it does with a no."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from publisher.delivery import Backoff, Delivery
from publisher.errors import HopelessError, InterruptedByStop, RefusedError, TransientError
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
    """A Fiddler that notes what arrives; `judge` may raise."""

    def __init__(self) -> None:
        self.arrived: list[tuple[ModelName, str, list[Event]]] = []
        self.judge: Callable[[list[Event]], None] = lambda _: None

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Accept, unless the judge objects."""
        self.judge(events)
        self.arrived.append((name, "label" if update else "prediction", list(events)))

    def ids(self, kind: str) -> list[str]:
        """Return the ids that arrived, in order."""
        batches = (events for _, each, events in self.arrived if each == kind)
        return [event["prediction_id"] for events in batches for event in events]


class Bench:
    """A publisher with a stand-in for everything outside it."""

    def __init__(self, directory: Path, *, label_delay: float = 0.0) -> None:
        self.directory = directory
        self.destination = Destination()
        self.learned: list[Header] = []
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
            self.learned.append,
            label_delay,
            clock=lambda: self.now,
        )

    def value(self, name: str, **labels: str) -> float:
        """Return a sample of the publisher's metrics."""
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def quarantined(self) -> list[dict[str, str]]:
        """Return what was set aside."""
        path = self.directory / "quarantine" / "refused.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(name="bench")
def _bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@contextmanager
def once(error: Exception, destination: Destination) -> Iterator[None]:
    """Have the destination fail once."""
    errors = [error]

    def judge(_: list[Event]) -> None:
        if errors:
            raise errors.pop()

    destination.judge = judge
    yield
    assert not errors


def test_an_event_has_a_column_for_everything(bench: Bench) -> None:
    """Features by name, whole numbers whole, missing ones null; prediction, id and UTC time."""
    writer, _ = small_spool(bench.directory)
    writer.append([Prediction("a", 1_764_000_000.25, (3.5, 2.0), 5.5)])
    writer.append([Prediction("b", 1_764_000_000.0, (3.5, math.nan), 5.5)])

    bench.publisher.round()

    ((model, _, events),) = bench.destination.arrived
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


def test_a_label_is_an_update_of_its_event(bench: Bench) -> None:
    """An update holds the event's id and the target, and nothing else."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("a"))
    writer.append([label("a", 7.0)])

    bench.publisher.round()

    assert bench.destination.arrived[-1] == (
        ModelName("loans", "abc"),
        "label",
        [{"prediction_id": "a", "quality": 7.0}],
    )


def test_a_label_goes_to_the_version_that_predicted(bench: Bench) -> None:
    """After a change of the model, late labels still find their events."""
    writer, _ = small_spool(bench.directory, version="new")
    writer.append([label("a", version="old"), label("b", version="new")])

    bench.publisher.round()

    assert [
        (model.version, events[0]["prediction_id"])
        for model, _, events in bench.destination.arrived
    ] == [
        ("old", "a"),
        ("new", "b"),
    ]


def test_a_label_waits_for_its_prediction_in_another_segment(bench: Bench) -> None:
    """Spooled while a round is under way, by two workers: the prediction is published first."""
    (one, _), (other, _) = small_spool(bench.directory), small_spool(bench.directory)
    one.append(predictions("a"))
    other.append(predictions("b"))

    def meanwhile(_: list[Event]) -> None:
        # The first worker's segment has been read: what it gets now waits for the next round.
        bench.destination.judge = lambda _: None
        one.append(predictions("c"))
        other.append([label("c")])

    bench.destination.judge = meanwhile
    bench.publisher.round()
    assert bench.destination.ids("label") == []
    bench.publisher.round()
    bench.publisher.round()

    kinds = [
        kind
        for _, kind, events in bench.destination.arrived
        for event in events
        if event["prediction_id"] == "c"
    ]
    assert kinds == ["prediction", "label"]


def test_labels_give_fiddler_time(tmp_path: Path) -> None:
    """Labels follow only when the delay has passed since their predictions were accepted."""
    bench = Bench(tmp_path, label_delay=10.0)
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    writer.append([label("a")])

    bench.publisher.round()
    bench.now = 9.9
    bench.publisher.round()
    assert bench.destination.ids("label") == []

    bench.now = 10.0
    bench.publisher.round()
    assert bench.destination.ids("label") == ["a"]


def test_a_round_tells_whether_there_was_anything(bench: Bench) -> None:
    """An idle spool is an idle round: the publisher may rest."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("a"))

    assert bench.publisher.round()
    assert not bench.publisher.round()
    assert bench.destination.ids("prediction") == ["a"]


def test_batches_hold_what_fiddler_takes(bench: Bench) -> None:
    """No request has more than 1,000 events."""
    writer, _ = small_spool(bench.directory, Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(2_500))))

    bench.publisher.round()

    assert [len(events) for _, _, events in bench.destination.arrived] == [1_000, 1_000, 500]
    assert bench.value("publisher_events_total", kind="prediction") == 2_500


@pytest.mark.parametrize("cause", ["connection", "throttled", "server_error", "timeout"])
def test_what_may_work_later_is_tried_again(bench: Bench, cause: str) -> None:
    """A failure is counted by its cause, and nothing is lost or sent out of order."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("ab"))

    with once(TransientError(cause, "not now"), bench.destination):  # type: ignore[arg-type]
        bench.publisher.round()

    assert bench.destination.ids("prediction") == ["a", "b"]
    assert bench.value("publisher_failures_total", cause=cause) == 1


def test_one_bad_event_does_not_take_its_batch_along(bench: Bench) -> None:
    """What is refused is found and set aside with Fiddler's words; the rest gets through."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions(map(str, range(100))))

    def judge(events: list[Event]) -> None:
        if any(event["prediction_id"] in ("17", "60") for event in events):
            raise RefusedError(422, "ph: too sour")

    bench.destination.judge = judge
    bench.publisher.round()

    good = [str(number) for number in range(100) if number not in (17, 60)]
    assert sorted(bench.destination.ids("prediction")) == sorted(good)
    assert [
        (each["refused"], json.loads(each["line"])["prediction_id"]) for each in bench.quarantined()
    ] == [
        ("ph: too sour", "17"),
        ("ph: too sour", "60"),
    ]
    assert bench.value("publisher_quarantined_events_total", kind="prediction") == 2


def test_an_event_that_is_there_already_counts_as_published(bench: Bench) -> None:
    """A conflict on an event alone means that an earlier try arrived."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("ab"))

    def judge(events: list[Event]) -> None:
        if any(event["prediction_id"] == "a" for event in events):
            raise RefusedError(409, "it exists")

    bench.destination.judge = judge
    bench.publisher.round()

    assert bench.destination.ids("prediction") == ["b"]
    assert bench.value("publisher_events_total", kind="prediction") == 2
    assert bench.value("publisher_quarantined_events_total", kind="prediction") == 0


def test_an_unreadable_line_is_set_aside(bench: Bench) -> None:
    """A line that is no event costs itself only."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("a"))
    writer.append([Label("a", 1.0, "abc", 5.0)])
    writer.close()
    (path,) = bench.directory.glob("*.jsonl")
    path.write_bytes(path.read_bytes() + b'{"prediction_id":1}\n\xff\xff\n{"label_of":3}\n[]\n')

    bench.publisher.round()

    assert bench.destination.ids("prediction") == ["a"]
    assert bench.destination.ids("label") == ["a"]
    assert len(bench.quarantined()) == 4
    assert not path.exists()


def test_what_was_accepted_before_a_stop_is_not_sent_again(bench: Bench) -> None:
    """The position is noted after each batch, whatever ends the next one."""
    writer, _ = small_spool(bench.directory, Limits(10**7, 10**7, 60.0))
    writer.append(predictions(map(str, range(1_500))))

    def judge(events: list[Event]) -> None:
        if len(events) == 500:
            raise InterruptedByStop

    bench.destination.judge = judge
    with pytest.raises(InterruptedByStop):
        bench.publisher.round()
    first = bench.destination.ids("prediction")
    bench.spool.close()

    again = Bench(bench.directory)
    again.publisher.round()

    assert first + again.destination.ids("prediction") == [str(number) for number in range(1_500)]


def test_hopeless_loses_nothing(bench: Bench) -> None:
    """Where access is denied, events wait."""
    writer, _ = small_spool(bench.directory)
    writer.append(predictions("a"))

    with once(HopelessError("denied", "no"), bench.destination), pytest.raises(HopelessError):
        bench.publisher.round()
    bench.publisher.round()

    assert bench.destination.ids("prediction") == ["a"]


def test_every_version_is_learned_before_its_events(bench: Bench) -> None:
    """The header of each segment is what a model is created from."""
    for version in ("one", "two"):
        writer, _ = small_spool(bench.directory, version=version)
        writer.append(predictions(version[:1]))

    bench.publisher.round()

    assert [header.version for header in bench.learned] == ["one", "two"]
    assert [model.version for model, _, _ in bench.destination.arrived] == ["one", "two"]


def test_the_backlog_is_what_is_not_published(tmp_path: Path) -> None:
    """Bytes, events and age of what waits are measured at a scrape, labels included."""
    bench = Bench(tmp_path, label_delay=10.0)
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("abc"))
    writer.append([label("a")])
    writer.close()
    assert bench.value("publisher_backlog_events") == 4
    assert bench.value("publisher_backlog_bytes") > 0
    assert bench.value("publisher_backlog_age_seconds") > 1_000_000

    bench.publisher.round()
    assert bench.value("publisher_backlog_events") == 1
    assert bench.value("publisher_backlog_age_seconds") == 0

    bench.now = 10.0
    bench.publisher.round()
    assert bench.value("publisher_backlog_events") == 0
    assert bench.value("publisher_backlog_bytes") == 0


def test_a_dropped_segment_is_no_backlog(bench: Bench) -> None:
    """A segment that a worker dropped neither counts nor stops the others."""
    first, _ = small_spool(bench.directory)
    first.append(predictions("a"))
    assert bench.value("publisher_backlog_events") == 1
    (path,) = bench.directory.glob("*.jsonl")
    second, _ = small_spool(bench.directory)
    second.append(predictions("b"))

    path.unlink()

    assert bench.value("publisher_backlog_events") == 1
    bench.publisher.round()
    assert bench.destination.ids("prediction") == ["b"]


def test_pauses_double_up_to_the_longest() -> None:
    """Each failure doubles the pause, within jitter; a server that asks for more gets more."""
    backoff = Backoff(1.0, 60.0)

    pauses = [backoff.next() for _ in range(50)]

    for number, pause in enumerate(pauses):
        assert min(60.0, 2.0**number) / 2 <= pause <= min(60.0, 2.0**number)
    assert backoff.next(at_least=300.0) == 300.0
    backoff.reset()
    assert backoff.next() <= 1.0


def test_the_quarantine_is_bounded(tmp_path: Path) -> None:
    """Older refusals make room for newer ones."""
    quarantine = Quarantine(tmp_path, max_bytes=2_000)

    for number in range(100):
        quarantine.add(str(number).encode(), "no")

    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["refused.jsonl", "refused.older.jsonl"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 2_200
    last = (tmp_path / "refused.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"refused": "no", "line": "99"}
