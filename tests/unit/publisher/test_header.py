"""The header of a segment, and what happens if it is damaged."""

import json
from pathlib import Path

import pytest

from publisher.header import DamagedHeaderError, Header, UnknownHeaderError, read_header
from tests.support.bundles import CLASSES, TYPED_FEATURES, make_classification
from tests.support.spool import predictions, small_spool, spool_of


@pytest.fixture(name="line")
def _line(tmp_path: Path) -> bytes:
    writer, _ = small_spool(tmp_path)
    writer.append(predictions("a"))
    (path,) = tmp_path.glob("*.jsonl")
    return path.read_bytes().partition(b"\n")[0]


def test_no_flipped_bit_changes_a_header(line: bytes) -> None:
    """Any one bit that flips is noticed, or has changed nothing but the checksum's own name."""
    intact = read_header(line)
    for at in range(len(line)):
        for bit in range(8):
            flipped = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]
            try:
                read = read_header(flipped)
            except (DamagedHeaderError, UnknownHeaderError):
                continue
            assert read == intact
            assert at >= line.index(b',"crc32"')


def classification_header(directory: Path, *, probabilities: bool) -> bytes:
    """Return the first line of a classification's segment."""
    manifest = make_classification(probabilities=probabilities)
    spool_of(directory, manifest, predictions("a"))
    (path,) = directory.glob("*.jsonl")
    return path.read_bytes().partition(b"\n")[0]


@pytest.mark.parametrize("probabilities", [True, False])
def test_the_header_of_a_classification_is_read(tmp_path: Path, *, probabilities: bool) -> None:
    """It has types, categories and classes, and says whether there are probabilities."""
    header = read_header(classification_header(tmp_path, probabilities=probabilities))

    assert header.task == "classification"
    assert [each.type for each in header.features] == [each.type for each in TYPED_FEATURES]
    categories = {each.name: each.categories for each in header.features if each.categories}
    assert categories == {
        each.name: each.categories for each in TYPED_FEATURES if each.type == "category"
    }
    assert header.target.classes == CLASSES
    assert header.prediction.probabilities == probabilities


def test_categories_keep_their_type(tmp_path: Path) -> None:
    """True is neither 1 nor text."""
    line = classification_header(tmp_path, probabilities=True)
    changed = json.loads(line.partition(b',"crc32"')[0] + b"}")
    changed["target"]["classes"] = [True, 1, 1.5, "1"]

    classes = read_header(json.dumps(changed).encode()).target.classes

    assert [*map(type, classes)] == [bool, int, float, str]


@pytest.mark.parametrize(("task", "classes"), [("classification", []), ("regression", ["a", "b"])])
def test_a_task_without_its_classes_is_no_header(
    tmp_path: Path, task: str, classes: list[str]
) -> None:
    """Fiddler's schema could not be made of it."""
    line = classification_header(tmp_path, probabilities=True)
    changed = json.loads(line.partition(b',"crc32"')[0] + b"}") | {"task": task}
    changed["target"]["classes"] = classes

    with pytest.raises(DamagedHeaderError, match="a classification has classes"):
        read_header(json.dumps(changed).encode())


def test_a_header_without_checksum_is_read(line: bytes) -> None:
    """Earlier versions wrote none."""
    without = line.partition(b',"crc32"')[0] + b"}"

    assert isinstance(read_header(without), Header)


def test_a_header_of_a_newer_format_is_not_damaged() -> None:
    """A newer publisher will read it."""
    with pytest.raises(UnknownHeaderError, match="spool"):
        read_header(json.dumps({"spool": 2, "shape": "new"}).replace(" ", "").encode())


@pytest.mark.parametrize("line", [b"", b"[]", b'{"prediction_id":"a"}', b'{"spool":1}', b"\xff"])
def test_what_is_no_header_is_damaged(line: bytes) -> None:
    """The message names the field and holds no value."""
    with pytest.raises(DamagedHeaderError):
        read_header(line)
