"""The prediction log in an object store, by its commands, over HTTP to a server here."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyarrow import fs

from publisher.erase import main as erase
from publisher.layout import open_root
from publisher.listing import list_files
from publisher.retention import Limits, expire
from tests.support.client_environment import INSTALL_SECONDS
from tests.support.object_store import ObjectStore, object_store
from tests.support.prediction_log import log_spool
from tests.support.spool import label, predictions, small_spool
from tools.log.__main__ import main as log
from tools.replay.compare import compare, report
from tools.replay.open import open_log

DAY = 86_400.0
NOON = 1_795_780_800.0  # of 2026-11-27


# The first test may have to install the server.
pytestmark = pytest.mark.timeout(INSTALL_SECONDS + 300)


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[ObjectStore]:
    with object_store("logs") as server:
        yield server


@pytest.fixture(name="s3")
def _s3(server: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """Return the server, which this process uses."""
    for name, value in server.settings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MODEL_SPOOL_DIR", raising=False)
    return server


@pytest.fixture(name="place")
def _place(
    s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> tuple[fs.FileSystem, str]:
    """Return an object store and a root of its own, with five days of two versions."""
    assert s3.settings
    url = f"s3://logs/{request.node.name}/log"
    monkeypatch.setenv("PREDICTION_LOG", url)
    filesystem, root = open_root(url)
    for version in ("abc", "def"):
        for day in range(5):
            writer, _ = small_spool(tmp_path / "spool", version=version)
            ids = [f"{version}-{day}-{at}" for at in range(3)]
            writer.append(predictions(ids, NOON - day * DAY))
            writer.append([label(each, 6.0 + day, version) for each in ids[:2]])
            writer.close()
    log_spool(tmp_path / "spool", root, filesystem)
    return filesystem, root


def answer(capsys: pytest.CaptureFixture[str], query: str) -> object:
    """Return the answer to a query."""
    assert log(["--format", "json", "sql", query]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("place")
def test_the_log_in_a_bucket_answers_queries(capsys: pytest.CaptureFixture[str]) -> None:
    """The views are the same as those of a directory."""
    found = answer(
        capsys,
        "select version, count(*) n, avg(error) e from labelled where day >= '2026-11-26'"
        " group by version order by version",
    )

    assert found == [{"version": each, "n": 4, "e": -1.0} for each in ("abc", "def")]
    assert log([]) == 0
    assert capsys.readouterr().out.splitlines()[-2].split()[:3] == ["total", "30", "20"]


def test_a_damaged_object_is_left_out(
    place: tuple[fs.FileSystem, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named on stderr."""
    filesystem, root = place
    with filesystem.open_output_stream(
        f"{root}/predictions/day=2026-11-20/version=abc/1.parquet"
    ) as stream:
        stream.write(b"unreadable")

    assert log(["sql", "select count(*) from predictions"]) == 0
    out, err = capsys.readouterr()
    assert out.split()[-1] == "30"
    assert "1.parquet is damaged and left out" in err


def test_erased_rows_leave_the_bucket(
    place: tuple[fs.FileSystem, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An object is replaced, or deleted if nothing is left of it."""
    filesystem, root = place
    before = len(list_files(filesystem, root))
    ids = [f"abc-4-{at}" for at in range(3)]

    assert erase([*ids, "def-0-1", "nobody"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("erased 4 predictions and 3 labels in 4 files of the log, 0 lines")
    assert lines[1] == "not found: nobody"
    assert len(list_files(filesystem, root)) == before - 2
    assert answer(capsys, "select count(*) n from predictions") == [{"n": 26}]
    assert answer(capsys, "select count(*) n from labels") == [{"n": 17}]


def test_old_days_leave_the_bucket(
    place: tuple[fs.FileSystem, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing of them is left but, of some stores, empty directory markers."""
    filesystem, root = place

    removed = expire(filesystem, root, Limits(keep_days=2), NOON)

    assert [str(day) for day in removed.days] == ["2025-11-24", "2026-11-23", "2026-11-24"]
    assert removed.files == 10 + 2 * 2
    assert removed.bytes > 0
    assert answer(capsys, "select count(*) n, min(day) d from predictions") == [
        {"n": 18, "d": "2026-11-25"}
    ]


def test_the_log_in_a_bucket_is_replayed(place: tuple[fs.FileSystem, str], tmp_path: Path) -> None:
    """With the same result as the spool that it was made of."""

    def lines(*places: str) -> list[str]:
        opened = open_log(places)
        return [*report(opened, compare(opened, lambda _, rows: [5.0] * len(rows), 1))]

    found = lines(f"s3://{place[1]}")

    assert found == lines(str(tmp_path / "spool"))
    assert found == lines()
    assert "15 predictions of version abc" in found


@pytest.mark.usefixtures("place")
def test_a_store_that_does_not_answer_is_one_line(
    s3: ObjectStore, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command says so, and nothing is left half done."""
    s3.stop()
    try:
        assert (log(["sql", "select 1"]), log([]), erase(["abc-0-0"])) == (1, 1, 1)
    finally:
        s3.start()

    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 3
    assert erase(["abc-0-0"]) == 0
    assert capsys.readouterr().out.startswith("erased 1 predictions and 1 labels")


@pytest.mark.usefixtures("s3")
def test_a_bucket_that_does_not_exist_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It is named."""
    assert log(["--log", "s3://nobody/log"]) == 1
    assert "s3://nobody/log" in capsys.readouterr().err
