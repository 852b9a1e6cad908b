"""The prediction log: which files a segment becomes, whatever interrupts their writing."""

import errno
import os
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from publisher.errors import InterruptedByStop, StoppedError
from publisher.layout import SPOOL_HEADER, parse_path, to_labels, to_predictions
from publisher.parquet import Parquet
from publisher.settings import SettingsError
from publisher.store import Store
from serving.events import Label, Prediction
from tests.support.export import Harness
from tests.support.spool import label, predictions, small_spool

MIDNIGHT = 1_764_028_800.0  # 25 November 2025
HOUR = 3_600.0


class Log:
    """A spool with its log: `write` appends a closed segment."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = directory / "log"
        self.spool = directory / "spool"
        self.clock = [0.0]
        self.writer = small_spool(self.spool)[0]
        monkeypatch.setenv("PREDICTION_LOG", str(self.root))
        self._monkeypatch = monkeypatch
        self.harness = self.restart()

    def restart(self) -> Harness:
        """Return a publisher of the spool, in place of the one before."""
        if hasattr(self, "harness"):
            self.harness.spool.close()
        self.destination = Parquet(clock=lambda: self.clock[0])
        self.harness = Harness(self.spool, destination=self.destination)
        return self.harness

    def write(self, *events: Prediction | Label) -> None:
        """Spool events in a segment of their own."""
        self.writer.append(events)
        self.writer.close()

    def segments(self) -> list[str]:
        """Return the names of the segments in the spool, without their suffix."""
        return sorted(path.stem for path in self.spool.glob("*.jsonl"))

    def files(self) -> list[str]:
        """Return the files below the root, also unfinished ones."""
        return sorted(
            str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.is_file()
        )

    def ids(self) -> list[str]:
        """Return the ids of all rows of predictions."""
        files = self.root.glob("predictions/*/*/[!.]*.parquet")
        return sorted(
            key for path in files for key in pq.read_table(path)["prediction_id"].to_pylist()
        )


@pytest.fixture(name="log")
def _log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(tmp_path, monkeypatch)


def at(key: str, time: float) -> Prediction:
    """Return a prediction at a time (s since 1970)."""
    return Prediction(key, time, (3.5, 7.0), 5.6)


def test_a_closed_segment_becomes_a_file_per_table(log: Log) -> None:
    """It is named after the segment, below day and version, and holds its events and its header."""
    log.write(*predictions("ab"), label("a"))
    (segment,) = log.segments()

    assert log.harness.publisher.run_once()

    day = "day=2025-11-24/version=abc"
    assert log.files() == [
        f"labels/{day}/{segment}.parquet",
        f"predictions/{day}/{segment}.parquet",
    ]
    labels, made = (pq.read_table(log.root / each) for each in log.files())
    assert [(each.prediction_id, each.prediction) for each in to_predictions(made)] == [
        ("a", 5.5),
        ("b", 5.5),
    ]
    assert [each.actual for each in to_labels(labels, "abc")] == [6.0]
    assert SPOOL_HEADER in made.schema.metadata
    assert pq.ParquetFile(log.root / log.files()[0]).metadata.row_group(0).column(
        0
    ).compression == ("ZSTD")
    assert log.segments() == []
    assert log.harness.value("publisher_events_total", kind="prediction") == 2


def test_an_open_segment_waits(log: Log) -> None:
    """More events may follow; it is a backlog meanwhile."""
    log.writer.append(predictions("a"))

    assert not log.harness.publisher.run_once()
    assert not log.root.exists()
    assert log.harness.value("publisher_backlog_events") == 1

    log.writer.close()
    assert log.harness.publisher.run_once()
    assert log.ids() == ["a"]
    assert log.harness.value("publisher_backlog_events") == 0


def test_a_segment_over_midnight_becomes_two_files(log: Log) -> None:
    """The day is that of the event, in UTC."""
    log.write(at("a", MIDNIGHT - 0.001), at("b", MIDNIGHT))

    log.harness.publisher.run_once()

    assert [str(parsed.day) for each in log.files() if (parsed := parse_path(each))] == [
        "2025-11-24",
        "2025-11-25",
    ]


def test_a_label_belongs_to_the_version_that_predicted(log: Log) -> None:
    """The segment's own version may be another one."""
    log.write(label("a", version="old"), label("b", version="abc"))

    log.harness.publisher.run_once()

    assert [parsed.version for each in log.files() if (parsed := parse_path(each))] == [
        "abc",
        "old",
    ]


@pytest.mark.parametrize("after", range(3))
def test_a_publisher_that_dies_writes_nothing_twice(
    log: Log, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Whichever file is the last one before its death, the next start leaves one row per event."""
    log.write(at("a", MIDNIGHT - 1), at("b", MIDNIGHT), label("a"))
    written: list[str] = []
    real = Store.write

    def die(store: Store, path: str, table: object) -> int:
        if len(written) == after:
            raise InterruptedByStop
        written.append(path)
        return real(store, path, table)

    with monkeypatch.context() as death:
        death.setattr(Store, "write", die)
        with pytest.raises(InterruptedByStop):
            log.harness.publisher.run_once()
    log.restart().publisher.run_once()

    assert log.ids() == ["a", "b"]
    assert len(log.files()) == 3


def test_an_unfinished_file_is_replaced(log: Log) -> None:
    """What a killed publisher left is no file of the log, and is gone after the next write."""
    log.write(*predictions("a"))
    (segment,) = log.segments()
    directory = log.root / "predictions" / "day=2025-11-24" / "version=abc"
    directory.mkdir(parents=True)
    (directory / f".{segment}.parquet").write_bytes(b"PAR1")
    assert parse_path(str(directory / f".{segment}.parquet")) is None

    log.harness.publisher.run_once()

    assert log.files() == [f"predictions/day=2025-11-24/version=abc/{segment}.parquet"]


def test_damaged_lines_are_set_aside_once(log: Log) -> None:
    """Also where the segment is tried again because the destination has failed meanwhile."""
    log.root.touch()
    log.write(at("a", MIDNIGHT), at("b", MIDNIGHT))
    path = next(log.spool.glob("*.jsonl"))
    content = path.read_bytes()
    damaged = content.splitlines(keepends=True)[1]
    path.write_bytes(content + damaged[:30] + b"\n" + damaged.replace(b"7.0", b"7.5"))

    for _ in range(3):
        with pytest.raises(StoppedError, match=r"^PREDICTION_LOG: .*/log: "):
            log.harness.publisher.run_once()
    log.root.unlink()
    log.harness.publisher.run_once()

    assert log.ids() == ["a", "b"]
    assert [each["rejected"] for each in log.harness.quarantined()] == [
        "damaged: line: json_invalid",
        "damaged: shelf: does not fit its type",
    ]
    assert log.harness.value("publisher_quarantined_events_total", kind="prediction") == 2


def test_a_full_disk_is_tried_again(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is lost and nothing is left of the first try."""
    log.write(*predictions("a"))
    (segment,) = log.segments()
    full = [True]
    seen: list[list[str]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        if full:
            full.pop()
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        seen.append(log.files())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    log.harness.publisher.run_once()

    assert log.ids() == ["a"]
    assert log.files() == [f"predictions/day=2025-11-24/version=abc/{segment}.parquet"]
    assert log.harness.value("publisher_failures_total", cause="storage") == 1


@pytest.mark.parametrize(
    ("of_root", "of_files", "of_directories"), [(0o700, 0o600, 0o700), (0o2770, 0o660, 0o2770)]
)
def test_the_root_decides_who_may_read(
    log: Log, of_root: int, of_files: int, of_directories: int
) -> None:
    """Files are for this user, and for the group of the root if the root is; for nobody else."""
    log.root.mkdir()
    log.root.chmod(of_root)
    log.write(*predictions("a"))

    log.harness.publisher.run_once()

    (file,) = (path for path in log.root.rglob("*") if path.is_file())
    assert file.stat().st_mode & 0o7777 == of_files
    assert file.parent.stat().st_mode & 0o7777 == of_directories


def test_old_days_are_removed_and_counted(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start and then once an hour."""
    monkeypatch.setenv("PREDICTION_LOG_KEEP_DAYS", "7")
    harness = log.restart()
    for step in (0.0, HOUR - 1, HOUR):
        log.write(*predictions("a"))
        harness.publisher.run_once()
        log.clock[0] = step
        log.destination.work()
        expected = {0.0: 1, HOUR - 1: 1, HOUR: 3}[step]
        assert harness.value("publisher_log_removed_files_total") == expected
    assert harness.value("publisher_log_removed_bytes_total") > 0
    assert log.files() == []


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("PREDICTION_LOG", "", "PREDICTION_LOG: Field required"),
        ("PREDICTION_LOG", "s3://", "PREDICTION_LOG: s3:// has no bucket"),
        (
            *("PREDICTION_LOG_KEEP_DAYS", "-1"),
            "PREDICTION_LOG_KEEP_DAYS: Input should be greater than or equal to 0",
        ),
    ],
)
def test_an_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    """The publisher ends with this line."""
    monkeypatch.setenv("PREDICTION_LOG", "log")
    monkeypatch.setenv(name, value)

    with pytest.raises(SettingsError) as failed:
        Parquet()

    assert str(failed.value) == message
