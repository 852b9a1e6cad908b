"""A spool with several readers: one file, a link for each; and what is never written to it."""

import errno
import json
import os
from pathlib import Path

import pytest

from bundle.manifest import REFERENCE_FILE
from entrypoint import StartError, prepare_spool
from serving.events import Prediction
from serving.settings import Settings
from serving.spool import check_excluded
from serving.spool_readers import place_reference
from serving.spool_room import Limits
from tests.support.spool import lines, predictions, small_manifest, small_spool

SMALL = Limits(max_bytes=4_000, segment_bytes=1_000, segment_seconds=60.0)


@pytest.fixture(name="readers")
def _readers(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "spool", tmp_path / "spool" / "log"


def segments(directory: Path) -> list[Path]:
    """Return the segments in order of age, oldest first."""
    return sorted(directory.glob("*.jsonl"))


def stored(*directories: Path) -> int:
    """Return the bytes of all segments; a file with several links counts once."""
    paths = [path for each in directories for path in segments(each)]
    return sum({path.stat().st_ino: path.stat().st_size for path in paths}.values())


def test_every_reader_has_a_link_to_each_segment(readers: tuple[Path, Path]) -> None:
    """Names, content and file are the same; missing directories are made."""
    spool, _ = small_spool(*readers)

    spool.append(predictions(["a"]))

    (first,), (second,) = map(segments, readers)
    assert first.name == second.name
    assert first.samefile(second)
    assert [each["prediction_id"] for each in lines(readers[1])] == ["a"]


def test_a_reader_that_is_done_takes_nothing_from_another(readers: tuple[Path, Path]) -> None:
    """A segment is there until its last reader has removed its link."""
    spool, _ = small_spool(*readers)
    spool.append(predictions(["a"]))
    spool.close()

    segments(readers[0])[0].unlink()

    assert [each["prediction_id"] for each in lines(readers[1])] == ["a"]


def test_links_are_made_only_when_a_segment_begins(
    readers: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event is one write for any number of readers."""
    spool, _ = small_spool(*readers)
    spool.append(predictions(["a"]))
    calls: list[str] = []

    def record(name: str) -> None:
        real = getattr(os, name)

        def call(*given: object) -> object:
            calls.append(name)
            return real(*given)

        monkeypatch.setattr(os, name, call)

    for each in ("open", "link", "rename", "mkdir", "write"):
        record(each)

    spool.append(predictions(["b"]))

    assert calls == ["write"]


def test_a_directory_that_was_removed_is_made_again(readers: tuple[Path, Path]) -> None:
    """The next segment has a link there."""
    spool, counts = small_spool(*readers)
    spool.append(predictions(["a"]))
    spool.close()
    segments(readers[1])[0].unlink()
    readers[1].rmdir()

    spool.append(predictions(["b"]))

    assert [each["prediction_id"] for each in lines(readers[1])] == ["b"]
    assert counts == {"written": 2}


def test_the_size_limit_counts_a_segment_once(readers: tuple[Path, Path]) -> None:
    """Two readers that are behind cost no more disk than one, and drop no earlier."""
    spool, counts = small_spool(*readers, limits=SMALL)
    alone, alone_counts = small_spool(readers[0].parent / "alone", limits=SMALL)

    for number in range(100):
        spool.append(predictions([f"{number:02}"]))
        alone.append(predictions([f"{number:02}"]))

    assert counts == alone_counts
    assert counts["dropped"] > 0
    assert stored(*readers) <= SMALL.max_bytes
    assert [*map(len, map(segments, readers))] == [len(segments(readers[0].parent / "alone"))] * 2


def test_the_oldest_segment_is_dropped_from_all_readers(readers: tuple[Path, Path]) -> None:
    """Its events count once, also where one of the readers has published them."""
    spool, counts = small_spool(*readers, limits=SMALL)
    spool.append(predictions(["first"]))
    spool.close()
    (oldest,) = segments(readers[0])
    oldest.unlink()

    written = 1
    while segments(readers[1])[0].name == oldest.name:
        spool.append(predictions([str(written)]))
        written += 1

    assert counts == {"written": written, "dropped": 1}


def test_a_segment_that_one_reader_keeps_waits_for_the_other(readers: tuple[Path, Path]) -> None:
    """Only where all have published it, it is no loss to drop it."""
    spool, counts = small_spool(*readers, limits=SMALL)
    for names in ("a", "bbbbbb"):
        spool.append(predictions(names))
        spool.close()
    for path in (*segments(readers[0]), segments(readers[1])[1]):
        path.rename(path.with_suffix(".published.jsonl"))

    while len([*readers[0].glob("*.published.jsonl")]) == 2:
        spool.append(predictions(["c"]))

    (kept,) = readers[0].glob("*.published.jsonl")
    assert json.loads(kept.read_text().splitlines()[1])["prediction_id"] == "a"
    assert counts["dropped"] == 0


def test_an_old_segment_is_closed_without_another_event(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers of closed segments need not wait for the next request."""
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    spool, _ = small_spool(tmp_path, limits=Limits(1_000_000, 100_000, 60.0))
    spool.close_if_old()
    spool.append(predictions(["a"]))

    clock[0] = 159.9
    spool.close_if_old()
    spool.append(predictions(["b"]))
    assert len(segments(tmp_path)) == 1

    clock[0] = 160.0
    spool.close_if_old()
    spool.append(predictions(["c"]))
    assert len(segments(tmp_path)) == 2


def test_an_excluded_feature_is_not_written(tmp_path: Path) -> None:
    """Neither header nor events have it; the others stay in their order."""
    spool, _ = small_spool(tmp_path, excluded={"ph"})

    spool.append([Prediction("a", 1.25, (3.5, 7.0), 5.6, (0.5, 0.5))])

    (segment,) = segments(tmp_path)
    header = json.loads(segment.read_text().splitlines()[0])
    assert [each["name"] for each in header["features"]] == ["shelf"]
    assert lines(tmp_path) == [
        {
            "prediction_id": "a",
            "time": 1.25,
            "features": [7.0],
            "prediction": 5.6,
            "probabilities": [0.5, 0.5],
        }
    ]


def test_an_excluded_feature_is_not_among_the_reference_rows(
    readers: tuple[Path, Path], tmp_path: Path
) -> None:
    """Every reader gets the rows without its column."""
    for each in readers:
        each.mkdir()
    (tmp_path / REFERENCE_FILE).write_text('ph,shelf,quality\n3.5,"a ""b""",5\n,2,6\n')
    manifest = small_manifest().model_copy(update={"files": {REFERENCE_FILE: ""}})

    place_reference(readers, tmp_path, manifest, {"ph"})

    for each in readers:
        (path,) = each.glob("*.csv")
        assert path.read_text() == 'shelf,quality\n"a ""b""",5\n2,6\n'
        assert path.stat().st_mode & 0o777 == 0o600


def test_an_unknown_feature_cannot_be_excluded() -> None:
    """It may be misspelt, and then the right one would be written."""
    with pytest.raises(ValueError, match=r"^MODEL_SPOOL_EXCLUDE: pH is no feature of model loans$"):
        check_excluded(small_manifest(), {"ph", "pH"})


def test_readers_without_hard_links_are_an_error_at_the_start(
    readers: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line names both directories; nothing is left there."""

    def reject(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)

    monkeypatch.setattr(os, "link", reject)
    settings = Settings(
        bundle=tmp_path, metrics_dir=tmp_path, spool_dir=readers[0], spool_log_dir=readers[1]
    )

    with pytest.raises(StartError) as failed:
        prepare_spool(settings, small_manifest())

    assert str(failed.value) == (
        f"MODEL_SPOOL_LOG_DIR: {readers[1]} and {readers[0]} must be on one file system"
        " that has hard links: Invalid cross-device link"
    )
    assert [*readers[0].iterdir()] == [readers[1]]
