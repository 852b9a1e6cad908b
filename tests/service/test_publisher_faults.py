"""The real client, a sick Fiddler, and processes that die: every accepted event arrives."""

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
from tools.fiddler_stand_in import Choose, Fault, Fiddler, never, running_fiddler, times

_WRITERS = 3


@dataclass
class Row:
    """One line of the fault table."""

    fault: str
    spooled: int
    arrived: int
    duplicates: int
    labels_spooled: int
    labels_arrived: int


@dataclass
class Table:
    """What each fault has cost."""

    rows: list[Row] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the table as text."""
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


def often(*faults: Fault, share: float = 0.4) -> Choose:
    """Have faults in a share of the requests for events, the first three included."""
    dice = random.Random(1)  # noqa: S311 chosen to be the same each time
    asked = [0]

    def choose(_: str, path: str) -> Fault | None:
        asked[0] += path == "/v3/events"
        if path == "/v3/events" and (asked[0] <= len(faults) + 2 or dice.random() < share):
            return faults[asked[0] % len(faults)]
        return None

    return choose


def everywhere(fault: Fault) -> Choose:
    """Have a fault in the first request and in a third of those after, whatever they are for."""
    dice = random.Random(1)  # noqa: S311 chosen to be the same each time
    asked = [0]

    def choose(_: str, __: str) -> Fault | None:
        asked[0] += 1
        return fault if asked[0] == 1 or dice.random() < 1 / 3 else None

    return choose


THROTTLED = Fault("answer", 429, {"Retry-After": "0"})
FAULTS: dict[str, tuple[Choose, str]] = {
    "none": (never, ""),
    "429 bursts": (often(THROTTLED, share=0.7), "throttled"),
    "500s": (often(Fault("answer", 500), Fault("answer", 503)), "server_error"),
    "HTML error page": (often(Fault("html", 502), Fault("html", 404)), "server_error"),
    "HTML with 200": (often(Fault("html", 200)), "protocol"),
    "stall": (often(Fault("stall"), share=0.1), "timeout"),
    "stall, stored": (often(Fault("stall_after"), share=0.1), "timeout"),
    "cut in the request": (often(Fault("cut")), "connection"),
    "cut in the answer": (often(Fault("cut_after")), "connection"),
    "everything at start": (everywhere(Fault("answer", 503)), "server_error"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_everything_arrives(tmp_path: Path, fiddler: Fiddler, table: Table, name: str) -> None:
    """Workers and publisher are killed while Fiddler is sick; nothing accepted is lost."""
    fiddler.fault, cause = FAULTS[name]
    settings = {"FIDDLER_TIMEOUT": "0.3"} if "stall" in name else {}

    def check(publisher: PublisherProgram) -> None:
        if cause:
            publisher.until(f"a failure by {cause}", "publisher_failures_total", cause=cause)

    _endure(tmp_path, fiddler, check, settings)
    _check_all_arrived(tmp_path, fiddler, table, name)


def test_everything_arrives_after_an_outage(tmp_path: Path, fiddler: Fiddler, table: Table) -> None:
    """While connections are refused, events wait; when they are not, they go."""
    fiddler.refuse()

    def check(publisher: PublisherProgram) -> None:
        publisher.until("a failure", "publisher_failures_total", cause="connection")
        publisher.until("a backlog", "publisher_backlog_events")
        assert fiddler.store.counts["accepted"] == 0
        fiddler.accept()

    _endure(tmp_path, fiddler, check, {})
    _check_all_arrived(tmp_path, fiddler, table, "refused connection")


def test_a_stop_does_not_wait_for_a_server_that_hangs(tmp_path: Path, fiddler: Fiddler) -> None:
    """SIGTERM ends the publisher in mid-request; the batch is sent at the next start."""
    fiddler.fault = times(1, Fault("stall"))
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


def test_the_model_and_its_training_rows_are_there(tmp_path: Path, fiddler: Fiddler) -> None:
    """Fiddler gets an explicit schema and, once, the rows that the bundle carries as baseline."""
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
            publisher.until("the baseline is there", "publisher_baseline_published")

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


def test_a_model_that_somebody_made_otherwise_is_left_alone(
    tmp_path: Path, fiddler: Fiddler
) -> None:
    """Where Fiddler's model of this name and version lacks columns, nothing is sent to it."""
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
        publisher.until("it says so", "publisher_stopped", reason="schema")
        assert "lacks predicted_at, predicted_quality" in publisher.program.output()
    assert fiddler.store.all_events() == {}


def test_a_deleted_model_is_created_again(tmp_path: Path, fiddler: Fiddler) -> None:
    """Where somebody deletes the model at Fiddler, events go on with a new one."""
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


def test_an_event_that_fiddler_refuses_is_set_aside(tmp_path: Path, fiddler: Fiddler) -> None:
    """One event that does not fit the schema goes to quarantine with Fiddler's own words."""
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=20).wait() == 0
    last = max(spool.glob("*.jsonl"))
    bad = b'{"prediction_id":"bad","time":1.0,"features":["sour",1],"prediction":5.0}\n'
    last.write_bytes(last.read_bytes() + bad)

    with publishing(spool, fiddler.url, tmp_path / "log") as publisher:
        publisher.until_idle()
        publisher.until("it is counted", "publisher_quarantined_events_total", kind="prediction")

    (refused,) = (spool / "quarantine" / "refused.jsonl").read_text().splitlines()
    assert "ph: 'sour' is not what the schema says" in json.loads(refused)["refused"]
    assert fiddler.store.all_events().keys() == accepted(tmp_path)[0]


def _wrong_organisation(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.organisation = "tests" if right else "somebody else's"


def _incompatible(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.compatible = right


def _old(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.store.version = "25.20.0" if right else "23.1.0"


def _denied(fiddler: Fiddler, *, right: bool) -> None:
    fiddler.token = "a-token-for-tests" if right else "another"


@dataclass(frozen=True)
class Wrong:
    """What a person must change: how it is made wrong or right, and what is said of it."""

    name: str
    make: Callable[..., None]
    reason: str
    words: str


WRONG = [
    Wrong("wrong organisation", _wrong_organisation, "organisation", "FIDDLER_ORG_ID says tests"),
    Wrong("version refusal", _incompatible, "incompatible", "Please upgrade"),
    Wrong("old server", _old, "incompatible", "not compatible with your"),
    Wrong("token refused", _denied, "denied", "Invalid token"),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.name)
def test_what_a_person_must_change_stops_the_publisher(
    tmp_path: Path, fiddler: Fiddler, table: Table, wrong: Wrong
) -> None:
    """It says what is wrong, sends nothing, keeps everything, and goes on once that is changed."""
    wrong.make(fiddler, right=False)
    spool = tmp_path / "spool"
    spool.mkdir()
    assert start_writer(spool, "writer", tmp_path, batches=20).wait() == 0

    with publishing(spool, fiddler.url, tmp_path / "first.log") as publisher:
        publisher.until("it says so", "publisher_stopped", reason=wrong.reason)
        assert wrong.words in publisher.program.output()
        asked = fiddler.store.counts["requests"]
        publisher.until("a backlog", "publisher_backlog_events")
        assert publisher.program.stop() == 0
        assert fiddler.store.counts["requests"] == asked
    assert fiddler.store.all_events() == {}

    wrong.make(fiddler, right=True)
    with publishing(spool, fiddler.url, tmp_path / "second.log") as publisher:
        publisher.until_idle()
    _check_all_arrived(tmp_path, fiddler, table, wrong.name)


def _endure(
    directory: Path,
    fiddler: Fiddler,
    check: Callable[[PublisherProgram], None],
    settings: dict[str, str],
) -> None:
    """Spool and publish, with a worker and the publisher killed at moments that a die chooses."""
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
        # It has just been killed with SIGKILL, perhaps in the middle of a batch.
        with publishing(spool, fiddler.url, directory / "second.log", **settings) as publisher:
            for writer in writers:
                assert writer.wait() == 0
            fiddler.fault = never
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
    assert counts["orphans"] == 0, "a label has overtaken its prediction"
    assert list((directory / "spool").glob("*.jsonl")) == []
    assert not (directory / "spool" / "quarantine").exists()
