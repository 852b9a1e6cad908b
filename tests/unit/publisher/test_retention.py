"""Retention of the prediction log, on a local directory and on a file system in memory."""

from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from pyarrow import fs

from publisher.retention import Limits, Removed, expire

NOW = datetime(2026, 11, 27, 0, 0, 30, tzinfo=UTC).timestamp()
TABLES = ("predictions", "labels")


@pytest.fixture(name="log", params=["local", "memory"])
def _log(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[fs.FileSystem, str]:
    """Return a file system and the root of a log in it."""
    if request.param == "local":
        return fs.LocalFileSystem(), str(tmp_path / "log")
    return fs._MockFileSystem(datetime.now(UTC)), "bucket/log"  # noqa: SLF001 pyarrow has no other


def write(log: tuple[fs.FileSystem, str], path: str, size: int = 100) -> None:
    """Write a file below the root."""
    filesystem, root = log
    filesystem.create_dir(f"{root}/{path}".rpartition("/")[0])
    with filesystem.open_output_stream(f"{root}/{path}") as stream:
        stream.write(b"x" * size)


def fill(log: tuple[fs.FileSystem, str], *days: int, size: int = 100) -> None:
    """Write two versions of both tables on days of November."""
    for day in days:
        for table in TABLES:
            for version in ("a", "b"):
                write(log, f"{table}/day=2026-11-{day:02}/version={version}/1.parquet", size)


def left(log: tuple[fs.FileSystem, str]) -> list[str]:
    """Return the days that hold files, of both tables."""
    filesystem, root = log
    found = filesystem.get_file_info(fs.FileSelector(root, recursive=True, allow_not_found=True))
    return sorted(
        {
            "/".join(info.path.removeprefix(f"{root}/").split("/")[:2])
            for info in found
            if info.type == fs.FileType.File
        }
    )


def days(*of_november: int) -> tuple[date, ...]:
    """Return days of November."""
    return tuple(date(2026, 11, day) for day in of_november)


def test_nothing_is_removed_without_a_limit(log: tuple[fs.FileSystem, str]) -> None:
    """Both settings are 0 by default."""
    fill(log, 1, 27)

    assert expire(*log, Limits(), NOW) == Removed()
    assert len(left(log)) == 4


def test_days_before_the_kept_ones_are_removed(log: tuple[fs.FileSystem, str]) -> None:
    """With two days, yesterday and the day before stay, and so does today."""
    fill(log, 23, 24, 25, 26, 27)

    removed = expire(*log, Limits(keep_days=2), NOW)

    assert removed == Removed(days(23, 24), files=8, bytes=800)
    assert left(log) == [
        f"{table}/day=2026-11-{d}" for table in sorted(TABLES) for d in (25, 26, 27)
    ]


def test_the_oldest_days_are_removed_until_the_rest_fits(log: tuple[fs.FileSystem, str]) -> None:
    """A day has 400 bytes in both tables together; a limit that is reached is not exceeded."""
    fill(log, 24, 25, 26, 27)

    assert expire(*log, Limits(max_bytes=800), NOW) == Removed(days(24, 25), files=8, bytes=800)
    assert expire(*log, Limits(max_bytes=800), NOW) == Removed()


def test_both_limits_apply(log: tuple[fs.FileSystem, str]) -> None:
    """The stricter one decides."""
    fill(log, 22, 24, 25, 26, 27)

    assert expire(*log, Limits(2, 10_000), NOW).days == days(22, 24)
    assert expire(*log, Limits(2, 800), NOW).days == days(25)


def test_the_current_day_is_never_removed(log: tuple[fs.FileSystem, str]) -> None:
    """It is still written to, even if it alone is too large; so is a day of a clock ahead."""
    fill(log, 26, 27, 28)

    assert expire(*log, Limits(keep_days=1, max_bytes=1), NOW).days == days(26)
    assert len(left(log)) == 4


def test_other_files_are_left_alone(log: tuple[fs.FileSystem, str]) -> None:
    """What is not in a day of a table is not the log's."""
    others = [
        "predictions/day=yesterday/x.parquet",
        "predictions/2026-11-01/x.parquet",
        "notes/day=2026-11-01/x.parquet",
        "predictions/x.parquet",
    ]
    for path in others:
        write(log, path)
    fill(log, 1)

    assert expire(*log, Limits(keep_days=1), NOW).days == days(1)
    assert left(log) == sorted("/".join(path.split("/")[:2]) for path in others)


def test_a_log_that_does_not_exist_has_nothing_to_remove(log: tuple[fs.FileSystem, str]) -> None:
    """Nothing has been logged yet."""
    assert expire(*log, Limits(1, 1), NOW) == Removed()


def test_empty_days_and_unfinished_files_go_as_well(log: tuple[fs.FileSystem, str]) -> None:
    """What a killed process left behind does not stay for ever."""
    filesystem, root = log
    filesystem.create_dir(f"{root}/labels/day=2026-11-01/version=a")
    write(log, "predictions/day=2026-11-02/version=a/.1.parquet.new", size=7)

    assert expire(*log, Limits(keep_days=1), NOW) == Removed(days(1, 2), files=1, bytes=7)
    assert left(log) == []


class _Overtaken(fs.LocalFileSystem):  # type: ignore[misc]  # pyarrow is not typed
    """A file system where another process removes each day first."""

    def delete_dir(self, path: str) -> None:
        super().delete_dir(path)
        super().delete_dir(path)


def test_a_day_that_another_process_removes_first_is_no_error(tmp_path: Path) -> None:
    """Every replica that logs to the same place removes what is too old."""
    log = (_Overtaken(), str(tmp_path))
    fill(log, 1, 2, 27)

    assert expire(*log, Limits(keep_days=1), NOW).days == days(1, 2)
    assert left(log) == [f"{table}/day=2026-11-27" for table in sorted(TABLES)]
