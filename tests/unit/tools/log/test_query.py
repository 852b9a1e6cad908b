"""`./task log -- sql`: the views, their columns over all versions, and what is read for a query."""

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from publisher.events import Event, Label, Prediction, Value
from publisher.header import Category, Header
from tests.support.prediction_log import log_events
from tools.log.__main__ import main
from tools.log.location import Location, find_log
from tools.log.query import connect
from tools.log.tables import Tables, open_tables
from tools.stack.settings import Settings, load_settings

DAY = 86_400.0
NOON = 1_795_780_800.0  # of 2026-11-27


def make_header(version: str = "a", classes: tuple[Any, ...] = (), **types: str) -> Header:
    """Return the header of a version with features of these types; `ph` is a number."""
    columns = {"ph": "number"} | types
    return Header.model_validate(
        {
            "spool": 1,
            "model": "loans",
            "version": version,
            "task": "classification" if classes else "regression",
            "features": [{"name": name, "type": type_} for name, type_ in columns.items()],
            "prediction": {},
            "target": {"name": "grade", "classes": classes},
        }
    )


def prediction(key: str, *features: Value, of: Category = 5.0, time: float = NOON) -> Prediction:
    """Return the prediction of a row."""
    return Prediction(prediction_id=key, time=time, features=features or (3.5,), prediction=of)


def label(key: str, actual: Category, version: str = "a", time: float = NOON + 60) -> Label:
    """Return the label of a prediction."""
    return Label(label_of=key, time=time, version=version, actual=actual)


@pytest.fixture(name="root")
def _root(tmp_path: Path) -> str:
    return str(tmp_path / "log")


_number = iter(range(1_000_000))


def write(root: str, header: Header, *events: Event) -> list[str]:
    """Log events of one kind as a segment of their own."""
    return log_events(root, header, events, f"{next(_number):020d}-0a")


def rows(capsys: pytest.CaptureFixture[str], root: str, query: str) -> list[dict[str, Any]]:
    """Return the answer to a query."""
    assert main(["--log", root, "--format", "json", "sql", query]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_prediction_has_its_columns_its_day_and_its_version(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """They are those of the layout, after the two that files are sorted by."""
    write(root, make_header(shelf="integer", sold="boolean"), prediction("x", 3.5, 2.0, None))

    assert rows(capsys, root, "select * from predictions") == [
        {
            "day": "2026-11-27",
            "version": "a",
            "prediction_id": "x",
            "predicted_at": "2026-11-27 12:00:00+00:00",
            "ph": 3.5,
            "shelf": 2,
            "sold": None,
            "prediction": 5.0,
        }
    ]


def test_a_labelled_prediction_has_its_latest_label_and_its_error(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """The error is prediction minus truth; a prediction without a label is not labelled."""
    header = make_header()
    write(root, header, prediction("x"), prediction("y"))
    write(root, header, label("x", 7.0, time=NOON + 2 * DAY), label("x", 9.0, time=NOON))
    write(root, header, label("x", 8.0, time=NOON + DAY), label("z", 1.0), label("y", 1.0, "b"))

    found = rows(capsys, root, "select prediction_id, labelled_at, actual, error from labelled")

    assert found == [
        {
            "prediction_id": "x",
            "labelled_at": "2026-11-29 12:00:00+00:00",
            "actual": 7.0,
            "error": -2.0,
        }
    ]


def test_a_classification_is_correct_or_not(capsys: pytest.CaptureFixture[str], root: str) -> None:
    """Classes are compared as the text that both tables have."""
    header = make_header(classes=(0, 1))
    write(root, header, prediction("x", of=1), prediction("y", of=0))
    write(root, header, label("x", 1), label("y", 1))

    found = rows(capsys, root, "select * from labelled order by prediction_id")

    assert [(each["prediction"], each["actual"], each["correct"]) for each in found] == [
        ("1", "1", True),
        ("0", "1", False),
    ]
    assert "error" not in found[0]


def test_versions_of_both_tasks_have_both_columns(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """Each is null for the other task, even where a class looks like a number."""
    numbers, classes = make_header("a"), make_header("b", classes=(0, 1))
    write(root, numbers, prediction("x", of=5.25))
    write(root, classes, prediction("y", of=1))
    write(root, classes, label("y", 0, "b"))
    write(root, numbers, label("x", 5.0, "a"))

    found = rows(capsys, root, "select error, correct from labelled order by version")

    assert found == [{"error": 0.25, "correct": None}, {"error": None, "correct": False}]


def test_versions_are_united_by_the_names_of_their_columns(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """A column that a version lacks is null; types that differ become double or text."""
    write(root, make_header("a", size="integer", old="number"), prediction("x", 1.5, 2.0, 3.0))
    write(root, make_header("b", size="number", ph="category"), prediction("y", "low", 2.5))

    assert rows(capsys, root, "select ph, size, old from predictions order by version") == [
        {"ph": "1.5", "size": 2.0, "old": 3.0},
        {"ph": "low", "size": 2.5, "old": None},
    ]


def test_a_restart_that_logs_fewer_features_hides_none(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """One version has two sets of columns on one day, if MODEL_SPOOL_EXCLUDE was set between."""
    write(root, make_header(private="number"), prediction("x", 1.0, 2.0))
    write(root, make_header(), prediction("y", 1.0))

    found = rows(capsys, root, "select prediction_id, private from predictions order by 1")

    assert found == [
        {"prediction_id": "x", "private": 2.0},
        {"prediction_id": "y", "private": None},
    ]


def test_a_feature_called_like_a_column_of_labels_has_a_prefix(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """In `labelled` alone, where both would be."""
    header = make_header(actual="number", Error="number")
    write(root, header, prediction("x", 1.0, 2.0, 3.0))
    write(root, header, label("x", 4.0))

    (found,) = rows(capsys, root, "select * from labelled")

    assert (found["feature_actual"], found["feature_Error"]) == (2.0, 3.0)
    assert (found["actual"], found["error"]) == (4.0, 1.0)


@pytest.mark.parametrize(
    "condition",
    [
        "day = '2026-11-27'",
        "day > date '2026-11-26' and version = 'a'",
        "day between '2026-11-27' and '2026-11-30'",
        "version = 'a'",
        "version in ('a', 'c')",
    ],
)
@pytest.mark.parametrize("view", ["predictions", "labelled"])
def test_only_the_files_of_the_days_and_versions_asked_for_are_read(
    root: str, tmp_path: Path, condition: str, view: str
) -> None:
    """The others are unreadable here."""
    write(root, make_header("a"), prediction("x"))
    write(root, make_header("a"), label("x", 6.0))
    (other,) = write(root, make_header("b"), prediction("y", time=NOON - DAY))
    connection = connect(open_tables(find_log(root)), tmp_path)
    Path(other).write_bytes(b"unreadable")

    assert connection.sql(f"select count(*) from {view} where {condition}").fetchall() == [(1,)]  # noqa: S608
    with pytest.raises(duckdb.Error):
        connection.sql(f"select count(ph) from {view}").fetchall()  # noqa: S608


@pytest.mark.parametrize("damage", [b"", b"PAR1 no Parquet PAR1", None])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_damaged_file_is_left_out_and_named(
    capsys: pytest.CaptureFixture[str], root: str, damage: bytes | None, place: int
) -> None:
    """Be it empty, cut off or overwritten; the rest answers."""
    paths = [path for key in "xyz" for path in write(root, make_header(), prediction(key * 100))]
    content = Path(paths[place]).read_bytes()
    Path(paths[place]).write_bytes(content[: len(content) // 2] if damage is None else damage)

    assert main(["--log", root, "sql", "select count(ph) n from predictions"]) == 0

    out, err = capsys.readouterr()
    assert out.splitlines() == ["n", "-", "2"]
    assert err == f"log: {paths[place]} is damaged and left out\n"


def test_a_file_that_vanishes_meanwhile_is_no_error(
    capsys: pytest.CaptureFixture[str], root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retention has removed it since the files were listed."""
    paths = [path for key in "xyz" for path in write(root, make_header(), prediction(key))]
    opened: list[object] = []

    def vanish(log: Location, *, check: bool = False) -> Tables:
        tables = open_tables(log, check=check)
        if not opened:
            Path(paths[1]).unlink()
        opened.append(tables)
        return tables

    monkeypatch.setattr("tools.log.query.open_tables", vanish)

    assert rows(capsys, root, "select count(ph) n from predictions") == [{"n": 2}]
    assert len(opened) == 2


def test_a_log_without_labels_has_an_empty_view(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """So a query is no error before the first label, nor after the last prediction expired."""
    write(root, make_header(), prediction("x"))

    assert rows(capsys, root, "select actual, error from labelled") == []
    assert rows(capsys, root, "select count(*) n from labels") == [{"n": 0}]


def test_numbers_are_exact_in_json_and_csv(capsys: pytest.CaptureFixture[str], root: str) -> None:
    """NaN and infinities, which JSON has not, are null."""
    write(root, make_header(), prediction("x", 1 / 3))
    query = "select ph, 'nan'::double n, true t, [1, 2] l, null z, 'a,b' s from predictions"

    assert rows(capsys, root, query) == [
        {"ph": 1 / 3, "n": None, "t": True, "l": [1, 2], "z": None, "s": "a,b"}
    ]
    assert main(["--log", root, "--format", "csv", "sql", query]) == 0
    assert capsys.readouterr().out == (
        'ph,n,t,l,z,s\n0.3333333333333333,nan,true,"[1, 2]",,"a,b"\n'
    )


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str], root: str) -> None:
    """Numbers to the right, rounded to six digits; null is a dash."""
    write(root, make_header(), *(prediction(key, ph) for key, ph in [("x", 1 / 3), ("yy", 12.0)]))

    query = "select prediction_id id, ph, null as nothing from predictions order by 1"
    assert main(["--log", root, "sql", query]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "id        ph  nothing",
        "--  --------  -------",
        "x   0.333333  -",
        "yy        12  -",
    ]


def test_a_long_table_ends_with_a_note(capsys: pytest.CaptureFixture[str], root: str) -> None:
    """CSV has every row."""
    write(root, make_header(), prediction("x"))
    query = "select * from range(30000)"

    assert main(["--log", root, "sql", query]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 202
    assert "only 200 rows are shown; --format csv prints all" in err
    assert main(["--log", root, "--format", "csv", "sql", query]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 30_001


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("select foo from predictions", 'Referenced column "foo" not found'),
        ("select * from nothing", "Table with name nothing does not exist!"),
        ("selec 1", 'Parser Error: syntax error at or near "selec"'),
        ("select 'a'::int", "Could not convert string 'a' to INT32"),
        ("select 1 / 'x' from predictions", "Could not convert string 'x'"),
        (";", "the query has no answer"),
    ],
)
def test_a_query_that_fails_is_one_line(
    capsys: pytest.CaptureFixture[str], root: str, query: str, message: str
) -> None:
    """On stderr, with exit status 1."""
    write(root, make_header(), prediction("x"))

    assert main(["--log", root, "sql", query]) == 1

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("log: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["sql", "select 1"]])
def test_a_log_without_files_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, arguments: list[str]
) -> None:
    """Whether or not its directory exists."""
    for root in (tmp_path, tmp_path / "none"):
        assert main(["--log", str(root), *arguments]) == 1
        assert capsys.readouterr().err.startswith(f"log: {root} holds no prediction yet: ")


def test_without_an_address_the_setting_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The address is PREDICTION_LOG or --log."""
    monkeypatch.setattr("tools.log.location.load_settings", settings_of(tmp_path))

    assert main([]) == 1
    assert capsys.readouterr().err.startswith("log: PREDICTION_LOG is not set: ")


@pytest.mark.parametrize("address", ["ftp://host/x", "s3://"])
def test_an_address_of_nothing_is_one_line(
    capsys: pytest.CaptureFixture[str], address: str
) -> None:
    """A directory, s3:// or gs://."""
    assert main(["--log", address]) == 1
    assert capsys.readouterr().err.startswith(f"log: {address} ")


def settings_of(root: Path) -> Callable[[], Settings]:
    """Return what reads the settings of another checkout."""
    return lambda: load_settings({}, root)


def test_the_address_comes_from_the_settings_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A path there is relative to the checkout; one that is typed, to the shell's directory."""
    monkeypatch.setattr("tools.log.location.ROOT", tmp_path)
    monkeypatch.setattr("tools.log.location.load_settings", settings_of(tmp_path))
    (tmp_path / ".env").write_text("PREDICTION_LOG=kept\n")
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("USER_WORKING_DIR", str(tmp_path / "here"))
    write(str(tmp_path / "kept"), make_header(), prediction("in .env"))
    write(str(tmp_path / "here" / "typed"), make_header(), prediction("typed"))
    query = ["--format", "csv", "sql", "select prediction_id from predictions"]

    assert (main(query), main(["--log", "typed", *query])) == (0, 0)
    assert capsys.readouterr().out.split("\n")[1:4:2] == ["in .env", "typed"]


def lines(texts: Iterable[str]) -> list[str]:
    """Return lines without the spaces between columns."""
    return [" ".join(each.split()) for each in texts]


def test_the_summary_counts_rows_labels_and_files(
    capsys: pytest.CaptureFixture[str], root: str
) -> None:
    """By day and version, from the footers alone."""
    write(root, make_header(), *(prediction(f"{n}", math.pi) for n in range(1_200)))
    write(root, make_header("b"), prediction("y", time=NOON + DAY))
    write(root, make_header("b"), label("0", 5.0, time=NOON + DAY))
    (damaged,) = write(root, make_header("b"), prediction("z"))
    Path(damaged).write_bytes(b"")

    assert main(["--log", root]) == 0

    found = lines(capsys.readouterr().out.splitlines())
    assert found[0] == "day version predictions labels files bytes"
    assert [each.rpartition(" ")[0] for each in found[2:6]] == [
        "2026-11-27 a 1,200 0 1",
        "2026-11-28 a 0 1 1",
        "2026-11-28 b 1 0 1",
        "total 1,201 1 3",
    ]
    assert found[6] == "1 damaged files are not counted"
    assert found[7].startswith("latest prediction: 2026-11-28 12:00:00 UTC, ")


def test_the_summary_says_what_the_spool_still_holds(
    capsys: pytest.CaptureFixture[str], root: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the native stack, whose spool is on this machine; segments are named after their time."""
    monkeypatch.setenv("STACK_VAR", str(tmp_path))
    waiting = tmp_path / "spool" / "log"
    waiting.mkdir(parents=True)
    write(root, make_header(), prediction("x"))

    assert main(["--log", root]) == 0
    assert "not in the log yet" not in capsys.readouterr().out

    for name in ("01795780800000000000-0a.jsonl", "01795780860000000000-0b.jsonl"):
        (waiting / name).touch()
    assert main(["--log", root]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not in the log yet: 2 segments of the spool, the oldest ")
