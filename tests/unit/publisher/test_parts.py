"""The publisher's smaller parts: settings, baseline, and a stop."""

import os
import signal
from pathlib import Path

import pytest

from publisher.baseline import Baselines, renamed
from publisher.errors import HopelessError, InterruptedByStop, RefusedError, TransientError
from publisher.events import ModelName
from publisher.metrics import Metrics
from publisher.settings import SettingsError, read_settings
from publisher.spool import Header, Spool
from publisher.stop import Stop
from tests.support.spool import predictions, small_spool

TOKEN = "a-very-secret-token"  # noqa: S105 nobody's
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


class Server:
    """A Fiddler that takes baselines; `errors` come first."""

    def __init__(self, *errors: Exception, states: tuple[str, ...] = ("SUCCESS",)) -> None:
        self.errors = list(errors)
        self.states = list(states)
        self.rows: list[str] = []

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Take rows, once."""
        assert (name, dataset) == (ModelName("loans", "abc"), "training")
        if self.errors:
            raise self.errors.pop(0)
        if self.rows:
            return None
        self.rows.append(rows.read_text())
        return "job"

    def job_state(self, job: str) -> tuple[str, str]:
        """Tell the next state."""
        assert job == "job"
        return self.states.pop(0), "no room"


class Bench:
    """Baselines of a spool, with a clock that a test turns."""

    def __init__(self, directory: Path, server: Server, header: Header) -> None:
        self.now = 0.0
        self.metrics = Metrics(Spool(directory, keep=False))
        self.baselines = Baselines(directory, server, self.metrics, 30.0, lambda: self.now)
        self.baselines.learn(header)

    def advance(self, times: int) -> None:
        """Make steps, each when it is due."""
        for _ in range(times):
            self.baselines.advance()
            self.now += 30.0

    def published(self) -> bool:
        """Tell whether the metric says that the rows are there."""
        return self.metrics.registry.get_sample_value("publisher_baseline_published") == 1


def test_settings_come_from_the_environment() -> None:
    """Four variables are enough; the token does not show."""
    settings = read_settings()

    assert settings.fiddler_url == "https://example.fiddler.ai"
    assert settings.model_spool_dir == Path("spool")
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    """What is missing is said in one line, without the secret."""
    environment.delenv(name)

    with pytest.raises(SettingsError) as error:
        read_settings()

    assert str(error.value) == f"{name}: Field required"


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("FIDDLER_URL", "example.fiddler.ai", "not an address"),
        ("FIDDLER_URL", "https://example.org/fiddler", "a path is in it"),
        ("FIDDLER_TIMEOUT", "0", "greater than 0"),
        ("PUBLISHER_METRICS_PORT", "99999", "less than or equal to 65535"),
        ("PUBLISHER_LOG_LEVEL", TOKEN, "should match"),
    ],
)
def test_a_wrong_setting_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str, words: str
) -> None:
    """What is wrong is said in one line, without the value: it may be a secret."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as error:
        read_settings()

    assert str(error.value).startswith(f"{name}: ")
    assert words in str(error.value)
    assert TOKEN not in str(error.value)


def test_rows_get_the_names_of_fiddlers_columns(header: Header) -> None:
    """The bundle's prediction is Fiddler's output; all other columns keep their names and order."""
    assert renamed(ROWS, header) == "quality,ph,shelf,predicted_quality\n5,3.5,1,5.5\n"


@pytest.mark.parametrize("rows", ["", "ph,shelf,quality\n", "ph,ph,quality,prediction\n"])
def test_rows_of_another_model_are_refused(header: Header, rows: str) -> None:
    """A baseline of other columns would compare apples with pears."""
    with pytest.raises(RefusedError, match="other columns"):
        renamed(rows, header)


def test_a_baseline_is_uploaded_once(tmp_path: Path, header: Header) -> None:
    """Rows are uploaded, their job is followed to its end, and that is all."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = Server(states=("PENDING", "STARTED", "SUCCESS"))
    bench = Bench(tmp_path, server, header)

    bench.advance(3)
    assert not bench.published()
    bench.advance(10)

    assert bench.published()
    assert server.rows == [renamed(ROWS, header)]
    assert server.states == []


def test_a_baseline_that_is_there_stays(tmp_path: Path, header: Header) -> None:
    """After a restart Fiddler is asked, and nothing is uploaded again."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = Server()
    server.rows.append("earlier")
    bench = Bench(tmp_path, server, header)

    bench.advance(1)

    assert bench.published()
    assert server.rows == ["earlier"]


def test_a_baseline_waits_for_better_times(tmp_path: Path, header: Header) -> None:
    """What may work later is tried later, and not before its time."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    server = Server(TransientError("connection", "no"), TransientError("throttled", "slowly"))
    bench = Bench(tmp_path, server, header)

    bench.baselines.advance()
    bench.now = 29.9
    bench.baselines.advance()
    assert len(server.errors) == 1

    bench.advance(10)
    assert bench.published()


@pytest.mark.parametrize("server", [Server(RefusedError(400, "no")), Server(states=("FAILURE",))])
def test_a_refused_baseline_is_given_up(tmp_path: Path, header: Header, server: Server) -> None:
    """Fiddler's no is said once, and never stops events."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    bench = Bench(tmp_path, server, header)

    bench.advance(5)

    assert not bench.published()


def test_a_baseline_without_rows_is_none(tmp_path: Path, header: Header) -> None:
    """A bundle that carries no rows has no baseline, and that is no fault."""
    server = Server()
    bench = Bench(tmp_path, server, header)

    bench.advance(5)

    assert not bench.published()
    assert server.rows == []


def test_a_hopeless_baseline_stops_the_publisher(tmp_path: Path, header: Header) -> None:
    """A token that is refused here is refused everywhere."""
    (tmp_path / "reference-abc.csv").write_text(ROWS)
    bench = Bench(tmp_path, Server(HopelessError("denied", "no")), header)

    with pytest.raises(HopelessError):
        bench.advance(1)


def test_a_stop_interrupts_only_what_may_be() -> None:
    """A signal ends a request at once; what is not interruptible ends by itself first."""
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
            pytest.fail("nothing more is begun")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
