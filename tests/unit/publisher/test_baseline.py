"""The upload of reference rows."""

from pathlib import Path

import pytest

from publisher.barrier import Barrier
from publisher.baseline import Baselines
from publisher.errors import RejectedError, StoppedError, TransientError
from publisher.events import ModelName
from publisher.header import Header
from publisher.metrics import Metrics
from publisher.peers import Peers
from publisher.spool import Spool
from tests.support.spool import predictions, small_spool

LONG = b"quality,ph,shelf,prediction\n" + b"1" * 200_000
ROWS = "quality,ph,shelf,prediction\n5,3.5,1,5.5\n"


@pytest.fixture(name="header")
def _header(tmp_path: Path) -> Header:
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    spool = Spool(tmp_path, keep=False)
    (segment,) = spool.segments()
    spool.close()
    return segment.header


class FiddlerStub:
    """A Fiddler that accepts baselines, after it has raised `errors`."""

    def __init__(self, *errors: Exception, states: tuple[str, ...] = ()) -> None:
        self.errors = list(errors)
        self.states = list(states)
        self.rows: list[str] = []

    def has_dataset(self, name: ModelName, dataset: str) -> bool:
        """Return whether there were rows."""
        assert (name, dataset) == (ModelName("loans", "abc"), "training")
        return bool(self.rows)

    def upload(self, name: ModelName, rows: Path, dataset: str) -> str:
        """Raise the next error, or accept rows."""
        assert (name, dataset) == (ModelName("loans", "abc"), "training")
        if self.errors:
            raise self.errors.pop(0)
        self.rows.append(rows.read_text())
        return "job"

    def job_state(self, job: str) -> tuple[str, str]:
        """Return the next state, which ends with success."""
        assert job == "job"
        return (self.states.pop(0) if self.states else "SUCCESS"), "no room"


class Harness:
    """The baselines of a spool, with a clock that the test sets."""

    def __init__(
        self, directory: Path, server: FiddlerStub, header: Header, *, created: bool = True
    ) -> None:
        self.now = 0.0
        self.server = server
        self.metrics = Metrics(Spool(directory, keep=False), Barrier(0.0, Peers()))
        self.baselines = Baselines(directory, self.metrics, 60.0, lambda: self.now)
        self.baselines.register(header, created)

    def advance(self, seconds: float) -> None:
        """Take all steps that are due in a time."""
        end = self.now + seconds
        while self.now <= end:
            self.baselines.advance(self.server)
            self.now += 30.0

    def published(self) -> bool:
        """Return whether the metric reports a published baseline."""
        return self.metrics.registry.get_sample_value("publisher_baseline_published") == 1


def test_a_baseline_is_uploaded_once(tmp_path: Path, header: Header) -> None:
    """Rows are uploaded once and their job is polled until it succeeds."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, FiddlerStub(states=("PENDING", "STARTED")), header)

    harness.advance(60)
    assert not harness.published()
    harness.advance(600)

    assert harness.published()
    assert harness.server.rows == [ROWS.replace("prediction", "predicted_quality")]


def test_only_the_creator_of_the_model_uploads_the_baseline(tmp_path: Path, header: Header) -> None:
    """The other replicas find the dataset and upload nothing."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, FiddlerStub(), header, created=False)

    harness.advance(1_000)
    assert harness.server.rows == []
    harness.server.rows.append("by another replica")
    harness.advance(10_000)

    assert harness.published()
    assert harness.server.rows == ["by another replica"]


def test_another_replica_uploads_the_baseline_if_the_creator_has_not(
    tmp_path: Path, header: Header
) -> None:
    """If the replica that created the model ends before the upload, another one does it later."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, FiddlerStub(), header, created=False)

    harness.advance(10_000)

    assert harness.published()
    assert len(harness.server.rows) == 1


def test_a_baseline_is_retried_after_a_pause(tmp_path: Path, header: Header) -> None:
    """A transient error is retried, but not before the pause has passed."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = FiddlerStub(TransientError("connection", "no"), TransientError("throttled", "slowly"))
    harness = Harness(tmp_path, server, header)

    harness.baselines.advance(server)
    harness.now = 59.9
    harness.baselines.advance(server)
    assert len(server.errors) == 1

    harness.advance(600)
    assert harness.published()


@pytest.mark.parametrize(
    ("errors", "states"),
    [((RejectedError(400, "no"),), ()), ((StoppedError("denied", "no"),), ()), ((), ("FAILURE",))],
)
def test_a_failed_baseline_is_retried_much_later(
    tmp_path: Path, header: Header, errors: tuple[Exception, ...], states: tuple[str, ...]
) -> None:
    """A rejected upload and a failed job are counted, stop no event, and are tried again."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, FiddlerStub(*errors, states=states), header)

    harness.advance(500)
    assert not harness.published()
    value = harness.metrics.registry.get_sample_value(
        "publisher_failures_total", {"cause": "baseline"}
    )
    assert value == 1

    harness.advance(1_000)
    assert harness.published()


@pytest.mark.parametrize("rows", [b"\xff", b"ph,\n", LONG])
def test_damaged_rows_stop_no_event(tmp_path: Path, header: Header, rows: bytes) -> None:
    """They are counted, and nothing is uploaded."""
    (tmp_path / "reference-abc.csv").write_bytes(rows)
    harness = Harness(tmp_path, FiddlerStub(), header)

    harness.advance(500)

    value = harness.metrics.registry.get_sample_value(
        "publisher_failures_total", {"cause": "baseline"}
    )
    assert value == 1
    assert harness.server.rows == []


def test_a_bundle_without_rows_has_no_baseline(tmp_path: Path, header: Header) -> None:
    """A bundle without reference rows uploads nothing and raises nothing."""
    harness = Harness(tmp_path, FiddlerStub(), header)

    harness.advance(500)

    assert not harness.published()
    assert harness.server.rows == []
