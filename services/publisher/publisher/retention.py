"""Remove old days from the prediction log: by age and by size, whole days, oldest first.

Works on the layout `<root>/<table>/day=YYYY-MM-DD/…` of a local directory or an object store. The
current day is never removed. Several processes may do this at once on the same log.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType

from publisher.layout import TABLES

_DAY = "day="


@dataclass(frozen=True)
class Limits:
    """What is kept: so many whole days before the current one, and so many bytes; 0 is no limit."""

    keep_days: int = 0
    max_bytes: int = 0


@dataclass(frozen=True)
class Removed:
    """What was removed: days, oldest first, the number of their files, and their bytes."""

    days: tuple[date, ...] = ()
    files: int = 0
    bytes: int = 0


@dataclass
class _Day:
    """What a day holds in all tables."""

    files: int = 0
    bytes: int = 0

    def add(self, info: FileInfo) -> None:
        self.files += 1
        self.bytes += info.size or 0


def expire(filesystem: FileSystem, root: str, limits: Limits, now: float) -> Removed:
    """Remove what exceeds the limits at `now` (s since 1970) and return what it was.

    Raises OSError; days that were removed before stay removed, and the next call goes on.
    """
    if not limits.keep_days and not limits.max_bytes:
        return Removed()
    days = _days(filesystem, root)
    expired = _expired(days, limits, datetime.fromtimestamp(now, UTC).date())
    for day in expired:
        _remove(filesystem, root, day)
    gone = [days[day] for day in expired]
    return Removed(tuple(expired), sum(d.files for d in gone), sum(d.bytes for d in gone))


def _expired(days: dict[date, _Day], limits: Limits, today: date) -> list[date]:
    """Return the days to remove, oldest first."""
    total = sum(day.bytes for day in days.values())
    oldest_kept = today - timedelta(limits.keep_days) if limits.keep_days else date.min
    expired: list[date] = []
    for day in sorted(each for each in days if each < today):
        too_large = limits.max_bytes and total > limits.max_bytes
        if day >= oldest_kept and not too_large:
            break
        expired.append(day)
        total -= days[day].bytes
    return expired


def _days(filesystem: FileSystem, root: str) -> dict[date, _Day]:
    """Return the days of the log with what they hold; a directory may be empty."""
    days: defaultdict[date, _Day] = defaultdict(_Day)
    for table in TABLES:
        for info in _entries(filesystem, f"{root}/{table}"):
            name = info.path.removeprefix(f"{root}/{table}/").partition("/")[0]
            if (day := _day(name)) is None:
                continue
            held = days[day]
            if info.type == FileType.File:
                held.add(info)
    return dict(days)


def _entries(filesystem: FileSystem, path: str) -> Iterator[FileInfo]:
    """Yield all that is below a directory, which need not exist."""
    selector = FileSelector(path, allow_not_found=True, recursive=True)
    yield from filesystem.get_file_info(selector)


def _day(name: str) -> date | None:
    """Return the day of a directory's name, None if it has another one."""
    try:
        return date.fromisoformat(name.removeprefix(_DAY)) if name.startswith(_DAY) else None
    except ValueError:
        return None


def _remove(filesystem: FileSystem, root: str, day: date) -> None:
    """Remove a day from all tables; what another process has removed already is no error."""
    for table in TABLES:
        with contextlib.suppress(FileNotFoundError):
            filesystem.delete_dir(f"{root}/{table}/{_DAY}{day.isoformat()}")
