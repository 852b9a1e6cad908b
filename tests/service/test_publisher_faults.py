"""Every accepted event reaches Fiddler, despite faults at Fiddler and killed processes."""

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.model import total
from tests.support.publisher import (
    PublisherProgram,
    accepted,
    make_spools,
    publishing,
    publishing_all,
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
    """One row of the fault table; events are predictions and labels together."""

    fault: str
    replicas: int
    accepted: int
    arrived: int
    duplicates: int
    drained: float
    """Seconds from the end of the fault, or the second start, until all spools are empty."""


@dataclass
class Table:
    """Events accepted and arrived under each fault."""

    rows: list[Row] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the table line by line."""
        yield "fault                  replicas  accepted  arrived  duplicates  lost  drained in s"
        for row in self.rows:
            yield (
                f"{row.fault:<22} {row.replicas:>8} {row.accepted:>9} {row.arrived:>8}"
                f" {row.duplicates:>11} {row.accepted - row.arrived:>5} {row.drained:>13.1f}"
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


def always(fault: Fault, path: str = "") -> FaultPolicy:
    """Inject a fault into every request, or into every request to a path."""
    return lambda _, requested: fault if path in ("", requested) else None


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
    "half is stored": (frequent(Fault("partial")), ""),
    "everything at start": (on_any_path(Fault("answer", 503)), "server_error"),
}


@pytest.mark.parametrize(
    ("name", "replicas"), [*((name, 1) for name in FAULTS), ("500s", 3), ("half is stored", 3)]
)
def test_everything_arrives(
    tmp_path: Path, fiddler: Fiddler, table: Table, name: str, replicas: int
) -> None:
    """No accepted event is lost when a worker and the publisher are killed during a fault."""
    fiddler.fault, cause = FAULTS[name]
    settings = {"FIDDLER_TIMEOUT": "0.3"} if "stall" in name else {}

    def check(publisher: PublisherProgram) -> None:
        if cause:
            publisher.until(f"a failure by {cause}", "publisher_failures_total", cause=cause)

    drained = _spool_and_publish(tmp_path, fiddler, check, settings, replicas)
    _check_all_arrived(tmp_path, fiddler, table, name, drained)


@pytest.mark.parametrize("replicas", [1, 3])
def test_everything_arrives_after_an_outage(
    tmp_path: Path, fiddler: Fiddler, table: Table, replicas: int
) -> None:
    """Events stay in the spool while connections are refused and are sent once they are not.

    With three replicas, labels lie in other spools than their predictions.
    """
    fiddler.close()

    def check(publisher: PublisherProgram) -> None:
        publisher.until("a failure", "publisher_failures_total", cause="connection")
        publisher.until("a backlog", "publisher_backlog_events")
        assert fiddler.store.counts["accepted"] == 0
        fiddler.listen()

    drained = _spool_and_publish(tmp_path, fiddler, check, {}, replicas)
    _check_all_arrived(tmp_path, fiddler, table, "refused connection", drained)


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


TYPES = {
    "ph": "float",
    "shelf": "int",
    "predicted_quality": "float",
    "quality": "float",
    "prediction_id": "str",
    "predicted_at": "timestamp",
}


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ({"ph": "float"}, "lacks predicted_at, predicted_quality"),
        (TYPES | {"ph": "int"}, "has ph as int, not as float"),
        (TYPES | {"quality": "str"}, "has quality as str, not as float"),
    ],
)
def test_nothing_is_sent_to_a_model_with_another_schema(
    tmp_path: Path, fiddler: Fiddler, types: dict[str, str], message: str
) -> None:
    """Publishing stops if Fiddler's model of this version lacks columns or has other types."""
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=5).wait() == 0
    project = fiddler.store.create("projects", {"name": "loans"})
    columns = [{"name": name, "data_type": type_} for name, type_ in types.items()]
    schema = {"columns": columns, "schema_version": 1}
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
        assert message in publisher.program.output()
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


def _denied_by_a_proxy(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.fault = no_fault if right else always(Fault("html", 403, heading="Forbidden"))


def _rejecting(fiddler: Fiddler, *, right: bool) -> None:
    fault = Fault("answer", 400)
    fiddler.fault = no_fault if right else always(fault, "/v3/events")


def _too_large(fiddler: Fiddler, *, right: bool) -> None:
    fault = Fault("html", 413)
    fiddler.fault = no_fault if right else always(fault, "/v3/events")


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
    Misconfiguration("a proxy's 403", _denied_by_a_proxy, "denied", "not by Fiddler: Forbidden"),
    Misconfiguration("400 for every event", _rejecting, "rejected", "10 predictions in a row"),
    Misconfiguration("413 for every event", _too_large, "rejected", "10 predictions in a row"),
]


@pytest.mark.parametrize("error", MISCONFIGURATIONS, ids=lambda error: error.name)
def test_a_misconfiguration_stops_the_publisher_until_it_is_fixed(
    tmp_path: Path, fiddler: Fiddler, table: Table, error: Misconfiguration
) -> None:
    """The publisher reports the error, waits long, and sends every event once it is fixed."""
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

    again = {"PUBLISHER_STOPPED_SECONDS": "0.5"}
    with publishing(spool, fiddler.url, tmp_path / "second.log", **again) as publisher:
        publisher.until("publishing has stopped", "publisher_stopped", reason=error.reason)
        error.set_up(fiddler, right=True)
        started = time.monotonic()
        publisher.until_idle()
        publisher.program.until(
            lambda: total(publisher.scrape(), "publisher_stopped") == 0, "it says so"
        )
    _check_all_arrived(tmp_path, fiddler, table, error.name, time.monotonic() - started)


def _spool_and_publish(
    directory: Path,
    fiddler: Fiddler,
    check: Callable[[PublisherProgram], None],
    settings: dict[str, str],
    replicas: int = 1,
) -> float:
    """Spool and publish, and kill a worker and the publishers at random moments.

    Returns the seconds from the second start of the publishers until all spools are empty.
    """
    dice = random.Random(fiddler.url)  # noqa: S311
    spools = make_spools(directory, replicas)
    with ExitStack() as stack:
        writers = [
            start_writer(spools[number % replicas], f"writer{number}", directory)
            for number in range(_WRITERS)
        ]
        for writer in writers:
            stack.callback(writer.kill)
        events = dice.randint(20, 1_000)
        victim = writers.pop()
        eventually(lambda: victim.output().count("\n") >= events, f"{events} events were accepted")
        victim.kill()
        with publishing_all(spools, fiddler.url, directory, "first", **settings) as publishers:
            check(publishers[0])
            reached = fiddler.store.counts["accepted"] + dice.randint(1, 2_000)
            publishers[0].program.until(
                lambda: (
                    fiddler.store.counts["accepted"] >= reached
                    or all(each.idle() for each in publishers)
                ),
                f"{reached} events arrived",
            )
        # The publishers were killed with SIGKILL, possibly in the middle of a batch.
        with publishing_all(spools, fiddler.url, directory, "second", **settings) as publishers:
            for writer in writers:
                assert writer.wait() == 0
            fiddler.fault = no_fault
            started = time.monotonic()
            for each in publishers:
                each.until_idle()
    return time.monotonic() - started


def _check_all_arrived(
    directory: Path, fiddler: Fiddler, table: Table, name: str, drained: float
) -> None:
    predictions, labels = accepted(directory)
    events, counts = fiddler.store.all_events(), fiddler.store.counts
    labelled = {key for key, event in events.items() if "quality" in event}
    arrived = len(predictions & events.keys()) + len(labels & labelled)
    table.rows.append(
        Row(
            name,
            len([*directory.glob("spool*")]),
            len(predictions) + len(labels),
            arrived,
            counts["duplicates"],
            drained,
        )
    )
    assert predictions - events.keys() == set()
    assert labels - labelled == set()
    assert all(events[key]["quality"] == len(key) for key in labels)
    assert counts["orphans"] == 0, "a label was sent before its prediction"
    assert list(directory.glob("spool*/*.jsonl")) == []
    assert list(directory.glob("spool*/quarantine/rejected*")) == []
