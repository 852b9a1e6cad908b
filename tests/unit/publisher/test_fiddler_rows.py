"""Reference rows as Fiddler gets them."""

import tempfile
from pathlib import Path

import pytest

from publisher.baseline import write_rows
from publisher.errors import RejectedError
from publisher.header import Header, read_header
from tests.support.bundles import make_classification
from tests.support.spool import predictions, small_spool, spool_of

TYPED = "size,rooms,new,color,zone,built,note,kind,prediction\n"


def header_of(directory: Path) -> Header:
    """Return the header of the only segment."""
    (path,) = directory.glob("*.jsonl")
    return read_header(path.read_bytes().partition(b"\n")[0])


def written(rows: str, header: Header) -> str:
    """Return the file that Fiddler gets for one of a bundle."""
    with tempfile.TemporaryDirectory() as directory:
        source, output = Path(directory) / "in.csv", Path(directory) / "out.csv"
        source.write_text(rows)
        write_rows(source, header, output)
        return output.read_text()


@pytest.fixture(name="header")
def _header(tmp_path: Path) -> Header:
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    return header_of(tmp_path)


@pytest.fixture(name="classification")
def _classification(tmp_path: Path) -> Header:
    directory = tmp_path / "typed"
    directory.mkdir()
    spool_of(directory, make_classification(), predictions("a"))
    return header_of(directory)


def test_the_prediction_column_gets_fiddlers_name(header: Header) -> None:
    """The others keep their names and order; an integer that pandas wrote as 1.0 is 1."""
    rows = "quality,ph,shelf,prediction\n5,3.5,1.0,5.5\n6,3.5,,5.5\n"

    expected = "quality,ph,shelf,predicted_quality\n5,3.5,1,5.5\n6,3.5,,5.5\n"
    assert written(rows, header) == expected


@pytest.mark.parametrize("rows", ["", "ph,shelf,quality\n", "ph,ph,quality,prediction\n"])
def test_rows_of_another_model_are_rejected(header: Header, rows: str) -> None:
    """A baseline whose columns are not the model's is rejected."""
    with pytest.raises(RejectedError, match="other columns"):
        written(rows, header)


def test_typed_values_are_written_as_in_events(classification: Header) -> None:
    """Categories are text as JSON writes them, times are in UTC, and missing values are empty."""
    rows = (
        TYPED
        + '1.5,2.0,True,"sky ""blue""",3.0,2020-01-02T03:04:05+02:00,7,ham,spam\n'
        + ",2,,,1,,7,spam,spam\n"
    )

    lines = written(rows, classification).splitlines()

    assert lines[0] == (
        "size,rooms,new,color,zone,built,note,kind,predicted_kind,"
        'probability_ham,"probability_so-called ""eggs""",probability_spam'
    )
    assert lines[1:] == [
        '1.5,2,true,"sky ""blue""",3,2020-01-02T01:04:05.000000Z,7,ham,spam,,,',
        ",2,,,1,,7,spam,spam,,,",
    ]


def test_probabilities_of_the_rows_are_kept(classification: Header) -> None:
    """A bundle may have them, in any order of columns."""
    names = TYPED.strip() + ',probability_spam,probability_ham,"probability_so-called ""eggs"""\n'

    lines = written(names + ",2,,,1,,7,ham,spam,0.7,0.1,0.2\n", classification).splitlines()

    assert lines[1].endswith(",ham,spam,0.1,0.2,0.7")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (",2.5,,,1,,7,ham,spam", "rooms"),
        (",2,maybe,,1,,7,ham,spam", "new"),
        (",2,,,third,,7,ham,spam", "zone"),
        (",2,,,1,yesterday,7,ham,spam", "built"),
    ],
)
def test_a_value_of_another_type_is_rejected(classification: Header, row: str, name: str) -> None:
    """The message names the column, but not the value."""
    with pytest.raises(RejectedError, match=f"^{name} has a value of another type$"):
        written(TYPED + row, classification)


def test_a_row_that_is_cut_off_is_rejected(header: Header) -> None:
    """The rest of the file may be missing, too."""
    with pytest.raises(RejectedError, match="2 values instead of 4"):
        written("quality,ph,shelf,prediction\n5,3", header)
