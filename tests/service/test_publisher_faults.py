"""Every accepted event reaches Fiddler, despite faults at Fiddler and killed processes."""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.publisher import (
    PublisherProgram,
    accepted,
    publishing,
    require_client,
    start_writer,
)
from tests.support.wait import eventually
from tools.fiddler_stand_in import (
    Fault,
    FaultPolicy,
    Fiddler,
    first_requests,
    no_fault,
    running_fiddler,
)

_WRITERS = 3


@dataclass
class Row:
    """One row of the fault table."""

    fault: str
    spooled: int
    arrived: int
    duplicates: int
    labels_spooled: int
    labels_arrived: int


@dataclass
class Table:
    """Events accepted and arrived under each fault."""

    rows: list[Row] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the table line by line."""
        yield "fault              accepted  arrived  duplicates  labels  labels arrived"
        for row in self.rows:
            yield (
                f"{row.fault:<18} {row.spooled:>8} {row.arrived:>8} {row.duplicates:>11}"
                f" {row.labels_spooled:>7} {row.labels_arrived:>15}"
            )


@pytest.fixture(name="table", scope="module")
def _table(request: pytest.FixtureRequest) -> Iterator[Table]:
    table = Table()
    yield table
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")
    if reporter is not None and capture is not None:
        with capture.global_and_fixture_disabled():
            for line in ("", *table.lines()):
                reporter.write_line(line)


@pytest.fixture(name="fiddler")
def _fiddler() -> Iterator[Fiddler]:
    require_client()
    with running_fiddler() as fiddler:
        yield fiddler


def frequent(*faults: Fault, share: float = 0.4) -> FaultPolicy:
    """Inject faults into a share of the requests for events, including the first ones."""
    dice = random.Random(1)  # noqa: S311 seeded, to be the same in each run
    requests = [0]

    def choose(_: str, path: str) -> Fault | None:
        requests[0] += path == "/v3/events"
        if path == "/v3/events" and (requests[0] <= len(faults) + 2 or dice.random() < share):
            return faults[requests[0] % len(faults)]
        return None

    return choose


def on_any_path(fault: Fault) -> FaultPolicy:
    """Inject a fault into the first request and a third of the others, whatever their path."""
    dice = random.Random(1)  # noqa: S311 seeded, to be the same in each run
    requests = [0]

    def choose(_: str, __: str) -> Fault | None:
        requests[0] += 1
        return fault if requests[0] == 1 or dice.random() < 1 / 3 else None

    return choose


THROTTLED = Fault("answer", 429, {"Retry-After": "0"})
FAULTS: dict[str, tuple[FaultPolicy, str]] = {
    "none": (no_fault, ""),
    "429 bursts": (frequent(THROTTLED, share=0.7), "throttled"),
    "500s": (frequent(Fault("answer", 500), Fault("answer", 503)), "server_error"),
    "HTML error page": (frequent(Fault("html", 502), Fault("html", 404)), "server_error"),
    "HTML with 200": (frequent(Fault("html", 200)), "protocol"),
    "stall": (frequent(Fault("stall"), share=0.1), "timeout"),
    "stall, stored": (frequent(Fault("stall_after"), share=0.1), "timeout"),
    "cut in the request": (frequent(Fault("cut")), "connection"),
    "cut in the answer": (frequent(Fault("cut_after")), "connection"),
    "everything at start": (on_any_path(Fault("answer", 503)), "server_error"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_everything_arrives(tmp_path: Path, fiddler: Fiddler, table: Table, name: str) -> None:
    """No accepted event is lost when a worker and the publisher are killed during a fault."""
    fiddler.fault, cause = FAULTS[name]
    settings = {"FIDDLER_TIMEOUT": "0.3"} if "stall" in name else {}

    def check(publisher: PublisherProgram) -> None:
        if cause:
            publisher.until(f"a failure by {cause}", "publisher_failures_total", cause=cause)

    _spool_and_publish(tmp_path, fiddler, check, settings)
    _check_all_arrived(tmp_path, fiddler, table, name)


def test_everything_arrives_after_an_outage(tmp_path: Path, fiddler: Fiddler, table: Table) -> None:
    """Events stay in the spool while connections are refused and are sent once they are not."""
    fiddler.close()

    def check(publisher: PublisherProgram) -> None:
        publisher.until("a failure", "publisher_failures_total", cause="connection")
        publisher.until("a backlog", "publisher_backlog_events")
        assert fiddler.store.counts["accepted"] == 0
        fiddler.listen()

    _spool_and_publish(tmp_path, fiddler, check, {})
    _check_all_arrived(tmp_path, fiddler, table, "refused connection")


def test_a_stop_does_not_wait_for_a_server_that_hangs(tmp_path: Path, fiddler: Fiddler) -> None:
    """SIGTERM interrupts a hanging request; the batch is sent after the next start."""
    fiddler.fault = first_requests(1, Fault("stall"))
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=5).wait() == 0

    with publishing(spool, fiddler.url, tmp_path / "1.log", FIDDLER_TIMEOUT="1000") as publisher:
        publisher.program.until(fiddler.stalled.is_set, "a request hangs")
        assert publisher.program.stop() == 0
    assert fiddler.store.all_events() == {}

    with publishing(spool, fiddler.url, tmp_path / "2.log") as publisher:
        publisher.until_idle()
    assert fiddler.store.all_events().keys() == accepted(tmp_path)[0]


def test_the_model_and_its_baseline_are_created(tmp_path: Path, fiddler: Fiddler) -> None:
    """The model gets an explicit schema, and the bundle's reference rows are uploaded once."""
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=5).wait() == 0
    rows = "quality,ph,shelf,prediction\n5,3.5,1,5.5\n6,3.6,,5.75\n"
    (spool / "reference-abc.csv").write_text(rows)

    for log in ("1.log", "2.log"):
        with publishing(spool, fiddler.url, tmp_path / log) as publisher:
            publisher.until_idle()
            start_writer(spool, "writer again", tmp_path, batches=1).wait()
            publisher.until_idle()
            publisher.until("the baseline is published", "publisher_baseline_published")

    (model,) = fiddler.store.models.values()
    columns = {
        each["name"]: (each["data_type"], each["min"], each["max"])
        for each in model["schema"]["columns"]
    }
    assert columns == {
        "ph": ("float", 2, 4),
        "shelf": ("int", 2, 4),
        "predicted_quality": ("float", 2, 4),
        "quality": ("float", 0, 10),
        "prediction_id": ("str", None, None),
        "predicted_at": ("timestamp", None, None),
    }
    assert (model["name"], model["version"], model["task"]) == ("loans", "abc", "regression")
    assert (model["spec"]["inputs"], model["spec"]["outputs"], model["spec"]["targets"]) == (
        ["ph", "shelf"],
        ["predicted_quality"],
        ["quality"],
    )
    assert (model["event_id_col"], model["event_ts_col"]) == ("prediction_id", "predicted_at")
    assert fiddler.store.datasets[model["id"]] == {
        "training": b"quality,ph,shelf,predicted_quality\n5,3.5,1,5.5\n6,3.6,,5.75\n"
    }


def test_nothing_is_sent_to_a_model_with_another_schema(tmp_path: Path, fiddler: Fiddler) -> None:
    """Publishing stops if Fiddler's model of this name and version lacks columns."""
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=5).wait() == 0
    project = fiddler.store.create("projects", {"name": "loans"})
    schema = {"columns": [{"name": "ph", "data_type": "float"}], "schema_version": 1}
    fiddler.store.create(
        "models",
        {
            "name": "loans",
            "version": "abc",
            "project_id": project["id"],
            "schema": schema,
            "spec": {},
            "input_type": "structured",
            "task": "regression",
            "task_params": {},
        },
    )

    with publishing(spool, fiddler.url, tmp_path / "log") as publisher:
        publisher.until("publishing has stopped", "publisher_stopped", reason="schema")
        assert "lacks predicted_at, predicted_quality" in publisher.program.output()
    assert fiddler.store.all_events() == {}


def test_a_deleted_model_is_created_again(tmp_path: Path, fiddler: Fiddler) -> None:
    """If the model is deleted at Fiddler, later events go to a new one."""
    spool = tmp_path / "spool"
    spool.mkdir()
    with publishing(spool, fiddler.url, tmp_path / "log") as publisher:
        assert start_writer(spool, "writer1", tmp_path, batches=3).wait() == 0
        publisher.until_idle()
        fiddler.store.models.clear()
        assert start_writer(spool, "writer2", tmp_path, batches=3).wait() == 0
        publisher.until_idle()

    assert len(fiddler.store.models) == 1
    assert fiddler.store.all_events().keys() == accepted(tmp_path)[0]


def test_an_event_that_fiddler_rejects_is_quarantined(tmp_path: Path, fiddler: Fiddler) -> None:
    """An event that does not fit the schema is quarantined with Fiddler's message."""
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=20).wait() == 0
    last = max(spool.glob("*.jsonl"))
    bad = b'{"prediction_id":"bad","time":1.0,"features":["sour",1],"prediction":5.0}\n'
    last.write_bytes(last.read_bytes() + bad)

    with publishing(spool, fiddler.url, tmp_path / "log") as publisher:
        publisher.until_idle()
        publisher.until(
            "it is quarantined", "publisher_quarantined_events_total", kind="prediction"
        )

    (rejected,) = (spool / "quarantine" / "rejected.jsonl").read_text().splitlines()
    assert "ph: 'sour' does not fit the schema" in json.loads(rejected)["rejected"]
    assert fiddler.store.all_events().keys() == accepted(tmp_path)[0]


def _wrong_organisation(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.organisation = "tests" if right else "another"


def _incompatible(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.compatible = right


def _old(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.version = "25.20.0" if right else "23.1.0"


def _denied(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.token = "a-token-for-tests" if right else "another"


@dataclass(frozen=True)
class Misconfiguration:
    """A configuration error: how it is made and fixed, and how the publisher reports it."""

    name: str
    set_up: Callable[..., None]
    reason: str
    message: str


MISCONFIGURATIONS = [
    Misconfiguration(
        "wrong organisation", _wrong_organisation, "organisation", "FIDDLER_ORG_ID is tests"
    ),
    Misconfiguration("version rejected", _incompatible, "incompatible", "Please upgrade"),
    Misconfiguration("old server", _old, "incompatible", "not compatible with your"),
    Misconfiguration("token rejected", _denied, "denied", "Invalid token"),
]


@pytest.mark.parametrize("error", MISCONFIGURATIONS, ids=lambda error: error.name)
def test_a_misconfiguration_stops_the_publisher_until_it_is_fixed(
    tmp_path: Path, fiddler: Fiddler, table: Table, error: Misconfiguration
) -> None:
    """The publisher reports the error, sends nothing, and sends every event once it is fixed."""
    error.set_up(fiddler, right=False)
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=20).wait() == 0

    with publishing(spool, fiddler.url, tmp_path / "first.log") as publisher:
        publisher.until("publishing has stopped", "publisher_stopped", reason=error.reason)
        assert error.message in publisher.program.output()
        requests = fiddler.store.counts["requests"]
        publisher.until("a backlog", "publisher_backlog_events")
        assert publisher.program.stop() == 0
        assert fiddler.store.counts["requests"] == requests
    assert fiddler.store.all_events() == {}

    error.set_up(fiddler, right=True)
    with publishing(spool, fiddler.url, tmp_path / "second.log") as publisher:
        publisher.until_idle()
    _check_all_arrived(tmp_path, fiddler, table, error.name)


def _spool_and_publish(
    directory: Path,
    fiddler: Fiddler,
    check: Callable[[PublisherProgram], None],
    settings: dict[str, str],
) -> None:
    """Spool and publish, and kill a worker and the publisher at random moments."""
    dice = random.Random(fiddler.url)  # noqa: S311
    spool = directory / "spool"
    spool.mkdir()
    with ExitStack() as stack:
        writers = [start_writer(spool, f"writer{number}", directory) for number in range(_WRITERS)]
        for writer in writers:
            stack.callback(writer.kill)
        events = dice.randint(20, 1_000)
        victim = writers.pop()
        eventually(lambda: victim.output().count("\n") >= events, f"{events} events were accepted")
        victim.kill()
        with publishing(spool, fiddler.url, directory / "first.log", **settings) as publisher:
            check(publisher)
            reached = fiddler.store.counts["accepted"] + dice.randint(1, 2_000)
            publisher.program.until(
                lambda: fiddler.store.counts["accepted"] >= reached or publisher.idle(),
                f"{reached} events arrived",
            )
        # The first publisher was killed with SIGKILL, possibly in the middle of a batch.
        with publishing(spool, fiddler.url, directory / "second.log", **settings) as publisher:
            for writer in writers:
                assert writer.wait() == 0
            fiddler.fault = no_fault
            publisher.until_idle()


def _check_all_arrived(directory: Path, fiddler: Fiddler, table: Table, name: str) -> None:
    predictions, labels = accepted(directory)
    events, counts = fiddler.store.all_events(), fiddler.store.counts
    labelled = {key for key, event in events.items() if "quality" in event}
    table.rows.append(
        Row(
            name,
            len(predictions),
            len(predictions & events.keys()),
            counts["duplicates"],
            len(labels),
            len(labels & labelled),
        )
    )
    assert predictions - events.keys() == set()
    assert labels - labelled == set()
    assert all(events[key]["quality"] == len(key) for key in labels)
    assert counts["orphans"] == 0, "a label was sent before its prediction"
    assert list((directory / "spool").glob("*.jsonl")) == []
    assert not (directory / "spool" / "quarantine").exists()
