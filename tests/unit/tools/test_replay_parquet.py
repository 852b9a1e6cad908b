"""Replaying the prediction log in Parquet files."""

import sys
from pathlib import Path

import numpy as np
import pytest

from publisher.header import Category
from serving.events import Label, Prediction
from tests.support.bundles import make_classification, make_rows
from tests.support.prediction_log import log_spool
from tests.support.spool import small_spool, spool_of
from tools.replay.__main__ import main
from tools.replay.compare import compare, report
from tools.replay.log import ReplayError, Row
from tools.replay.open import open_log
from tools.replay.predict import Predict

MIDNIGHT = 1_795_737_600.0  # of 2026-11-27


def compared(place: Path, predict: Predict) -> list[str]:
    """Return the lines of the report."""
    log = open_log([str(place)])
    return [*report(log, compare(log, predict, 5))]


@pytest.fixture(name="spool")
def _spool(tmp_path: Path) -> Path:
    """Return a spool of two versions and three days, with repeated rows and late labels."""
    random = np.random.default_rng(0)
    spool = tmp_path / "spool"
    for version in ("abc", "def"):
        writer, _ = small_spool(spool, version=version)
        for part in range(3):
            times = (MIDNIGHT - 30 + np.arange(60) + 86_400 * part).tolist()
            rows = [
                (float(ph), float(at % 7) or float("nan"))
                for at, ph in enumerate(random.integers(20, 40, 60) / 10)
            ]
            writer.append(
                [
                    Prediction(f"{version}-{part}-{at}", time, row, row[0] + random.normal())
                    for at, (time, row) in enumerate(zip(times, rows, strict=True))
                ]
            )
            for delay in (5, 100_000, 4):
                writer.append(
                    [
                        Label(
                            f"{version}-{part}-{at}",
                            times[at] + delay,
                            version,
                            rows[at][0] + delay,
                        )
                        for at in range(0, 60, 2)
                    ]
                )
            writer.close()
    return spool


def test_spool_and_parquet_files_of_the_same_events_compare_equally(
    spool: Path, tmp_path: Path
) -> None:
    """For numbers: versions, differences, errors, intervals and largest differences."""
    paths = log_spool(spool, str(tmp_path / "log"))

    def predict(_: object, rows: list[Row]) -> list[Category | None]:
        return [float(str(row[0])) * 1.1 for row in rows]

    found = compared(tmp_path / "log", predict)

    assert len(paths) > 2 * 6
    assert found == compared(spool, predict)
    assert [line for line in found if line.startswith("labelled")] == ["labelled rows: 90"] * 2
    assert "(95 % interval" in "".join(found)
    assert found[-6] == "largest differences:"


def test_both_compare_equally_for_classes_and_every_type(tmp_path: Path) -> None:
    """Missing values, categories that are numbers, times and unseen categories included."""
    manifest = make_classification()
    rows = [*make_rows(300), (1.0, 2.0, True, "unseen", 9.0, 86_400.25, 0.5)]
    events: list[Prediction | Label] = [
        Prediction(str(at), MIDNIGHT + at, row, "ham" if at % 3 else "spam", [0.5, 0.25, 0.25])
        for at, row in enumerate(rows)
    ]
    labels: list[Prediction | Label] = [
        Label(str(at), MIDNIGHT + 5, manifest.version, "spam") for at in range(200)
    ]
    spool_of(tmp_path / "spool", manifest, events + labels)
    log_spool(tmp_path / "spool", str(tmp_path / "log"))
    seen: list[list[Row]] = []

    def predict(_: object, rows: list[Row]) -> list[Category | None]:
        seen.append(rows)
        return ["spam" if row[2] else "ham" for row in rows]

    found = [compared(tmp_path / name, predict) for name in ("spool", "log")]

    assert found[0] == found[1]
    assert any("accuracy, replayed minus logged" in line for line in found[1])
    spooled, logged = seen
    assert logged == [tuple(round_time(value) for value in row) for row in spooled]


def round_time(value: object) -> object:
    """Return a value as the log has it: times in microseconds; no other value changes by this."""
    return round(value, 6) if isinstance(value, float) and value > 1_000 else value


@pytest.mark.parametrize("damage", [b"", b"PAR1", None])
@pytest.mark.parametrize("table", ["predictions", "labels"])
def test_damaged_files_are_skipped_and_counted(
    spool: Path, tmp_path: Path, damage: bytes | None, table: str
) -> None:
    """The rest of the log is compared."""
    log_spool(spool, str(tmp_path / "log"))
    path = min((tmp_path / "log" / table).rglob("*.parquet"))
    path.write_bytes(path.read_bytes()[:-20] if damage is None else damage)

    lines = compared(tmp_path / "log", lambda _, rows: [1.0] * len(rows))

    assert lines[0] == "skipped: 0 damaged lines, 1 damaged files"
    predictions = sum(int(line.split()[0]) for line in lines if " predictions of version" in line)
    assert (predictions == 360) == (table == "labels")


def test_the_log_of_the_stack_is_the_default(
    spool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without any place; without PREDICTION_LOG either, one line says so."""
    log_spool(spool, str(tmp_path / "log"))
    monkeypatch.setenv("PREDICTION_LOG", str(tmp_path / "log"))
    with pytest.raises(SystemExit, match=r"^replay: http://127\.0\.0\.1:1"):
        main(["--url", "http://127.0.0.1:1"])
    monkeypatch.setenv("PREDICTION_LOG", str(tmp_path / "none"))

    with pytest.raises(SystemExit, match="none holds no prediction yet"):
        main(["--url", "http://127.0.0.1:1"])
    assert capsys.readouterr().out == ""


def test_what_is_no_log_is_named(tmp_path: Path) -> None:
    """A directory without segments, a path of nothing, and two logs at once."""
    (tmp_path / "log" / "predictions").mkdir(parents=True)
    log = str(tmp_path / "log")

    with pytest.raises(
        ReplayError, match=r"holds neither segments \(\*\.jsonl\) nor Parquet files"
    ):
        open_log([str(tmp_path)])
    with pytest.raises(ReplayError, match="nothing does not exist"):
        open_log([str(tmp_path / "nothing")])
    with pytest.raises(ReplayError, match="can only be compared by itself"):
        open_log([log, log])
    with pytest.raises(ReplayError, match=r"^ftp://x/y is no directory"):
        open_log(["ftp://x/y"])


def test_without_pyarrow_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A spool can be replayed without it."""
    (tmp_path / "labels").mkdir()
    monkeypatch.delitem(sys.modules, "tools.replay.parquet_log", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(ReplayError, match=r"needs pyarrow: run \./task deps:log"):
        open_log([str(tmp_path)])
