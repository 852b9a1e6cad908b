"""Settings, baselines and the stop of the publisher."""

import os
import signal
from pathlib import Path

import pytest

from publisher.baseline import Baselines, rename_columns
from publisher.errors import FatalError, InterruptedByStop, RejectedError, TransientError
from publisher.events import ModelName
from publisher.metrics import Metrics
from publisher.settings import SettingsError, read_settings
from publisher.spool import Header, Spool
from publisher.stop import Stop
from tests.support.spool import predictions, small_spool

TOKEN = "a-very-secret-token"  # noqa: S105 not a real one
REQUIRED = {
    "FIDDLER_URL": "https://example.fiddler.ai",
    "FIDDLER_ORG_ID": "tests",
    "FIDDLER_AUTH_TOKEN": TOKEN,
    "MODEL_SPOOL_DIR": "spool",
}
ROWS = "quality,ph,shelf,prediction\n5,3.5,1,5.5\n"


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith(("FIDDLER_", "MODEL_", "PUBLISHER_")):
            monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


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

    def __init__(self, *errors: Exception, states: tuple[str, ...] = ("SUCCESS",)) -> None:
        self.errors = list(errors)
        self.states = list(states)
        self.rows: list[str] = []

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Raise the next error, or accept rows once."""
        assert (name, dataset) == (ModelName("loans", "abc"), "training")
        if self.errors:
            raise self.errors.pop(0)
        if self.rows:
            return None
        self.rows.append(rows.read_text())
        return "job"

    def job_state(self, job: str) -> tuple[str, str]:
        """Return the next state."""
        assert job == "job"
        return self.states.pop(0), "no room"


class Harness:
    """The baselines of a spool, with a clock that the test sets."""

    def __init__(self, directory: Path, server: FiddlerStub, header: Header) -> None:
        self.now = 0.0
        self.metrics = Metrics(Spool(directory, keep=False))
        self.baselines = Baselines(directory, server, self.metrics, 30.0, lambda: self.now)
        self.baselines.register(header)

    def advance(self, times: int) -> None:
        """Take this many steps, each when it is due."""
        for _ in range(times):
            self.baselines.advance()
            self.now += 30.0

    def published(self) -> bool:
        """Return whether the metric reports a published baseline."""
        return self.metrics.registry.get_sample_value("publisher_baseline_published") == 1


def test_settings_come_from_the_environment() -> None:
    """Four variables are enough, and the token does not appear in the representation."""
    settings = read_settings()

    assert settings.fiddler_url == "https://example.fiddler.ai"
    assert settings.model_spool_dir == Path("spool")
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    """The error for a missing setting is one line that names it."""
    environment.delenv(name)

    with pytest.raises(SettingsError) as error:
        read_settings()

    assert str(error.value) == f"{name}: Field required"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("FIDDLER_URL", "example.fiddler.ai", "not a URL"),
        ("FIDDLER_URL", "https://example.org/fiddler", "must not have a path"),
        ("FIDDLER_TIMEOUT", "0", "greater than 0"),
        ("PUBLISHER_METRICS_PORT", "99999", "less than or equal to 65535"),
        ("PUBLISHER_LOG_LEVEL", TOKEN, "should match"),
    ],
)
def test_an_invalid_setting_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    """The error for an invalid setting omits its value, which may be a secret."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as error:
        read_settings()

    assert str(error.value).startswith(f"{name}: ")
    assert reason in str(error.value)
    assert TOKEN not in str(error.value)


def test_baseline_columns_are_renamed_to_fiddlers(header: Header) -> None:
    """The prediction column gets Fiddler's output name; the others keep their names and order."""
    assert rename_columns(ROWS, header) == "quality,ph,shelf,predicted_quality\n5,3.5,1,5.5\n"


@pytest.mark.parametrize("rows", ["", "ph,shelf,quality\n", "ph,ph,quality,prediction\n"])
def test_rows_of_another_model_are_rejected(header: Header, rows: str) -> None:
    """A baseline whose columns are not the model's is rejected."""
    with pytest.raises(RejectedError, match="other columns"):
        rename_columns(rows, header)


def test_a_baseline_is_uploaded_once(tmp_path: Path, header: Header) -> None:
    """Rows are uploaded once and their job is polled until it succeeds."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = FiddlerStub(states=("PENDING", "STARTED", "SUCCESS"))
    harness = Harness(tmp_path, server, header)

    harness.advance(3)
    assert not harness.published()
    harness.advance(10)

    assert harness.published()
    assert server.rows == [rename_columns(ROWS, header)]
    assert server.states == []


def test_an_existing_baseline_is_not_uploaded_again(tmp_path: Path, header: Header) -> None:
    """After a restart the publisher finds the dataset at Fiddler and uploads nothing."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = FiddlerStub()
    server.rows.append("earlier")
    harness = Harness(tmp_path, server, header)

    harness.advance(1)

    assert harness.published()
    assert server.rows == ["earlier"]


def test_a_baseline_is_retried_after_a_pause(tmp_path: Path, header: Header) -> None:
    """A transient error is retried, but not before the pause has passed."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = FiddlerStub(TransientError("connection", "no"), TransientError("throttled", "slowly"))
    harness = Harness(tmp_path, server, header)

    harness.baselines.advance()
    harness.now = 29.9
    harness.baselines.advance()
    assert len(server.errors) == 1

    harness.advance(10)
    assert harness.published()


@pytest.mark.parametrize(
    "server", [FiddlerStub(RejectedError(400, "no")), FiddlerStub(states=("FAILURE",))]
)
def test_a_rejected_baseline_is_not_retried(
    tmp_path: Path, header: Header, server: FiddlerStub
) -> None:
    """A rejected upload and a failed job end the baseline without raising."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, server, header)

    harness.advance(5)

    assert not harness.published()


def test_a_bundle_without_rows_has_no_baseline(tmp_path: Path, header: Header) -> None:
    """A bundle without reference rows uploads nothing and raises nothing."""
    server = FiddlerStub()
    harness = Harness(tmp_path, server, header)

    harness.advance(5)

    assert not harness.published()
    assert server.rows == []


def test_a_fatal_error_of_a_baseline_is_raised(tmp_path: Path, header: Header) -> None:
    """A token that is rejected for the baseline would be rejected for events too."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    harness = Harness(tmp_path, FiddlerStub(FatalError("denied", "no")), header)

    with pytest.raises(FatalError):
        harness.advance(1)


def test_a_stop_interrupts_only_interruptible_code() -> None:
    """A signal interrupts a marked block at once, and other code before its next marked block."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = Stop()
        stop.install()
        with pytest.raises(InterruptedByStop), stop.interruptible():
            signal.raise_signal(signal.SIGTERM)

        stop = Stop()
        stop.install()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(InterruptedByStop), stop.interruptible():
            pytest.fail("the block was entered after a stop")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
