"""What is in the log: rows, labels and bytes of each day and version, and how late it is."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq

from publisher.layout import PREDICTED_AT
from publisher.listing import Listed
from publisher.spool import PUBLISHED_SUFFIX, SUFFIX
from tools.log.footers import read_each
from tools.log.location import Location
from tools.log.output import aligned

_NAMES = ("day", "version", "predictions", "labels", "files", "bytes")


@dataclass(frozen=True)
class Content:
    """What the footer of a file says: rows, and the time of the latest prediction."""

    rows: int
    latest: datetime | None


@dataclass
class _Sum:
    predictions: int = 0
    labels: int = 0
    files: int = 0
    bytes: int = 0

    def add(self, file: Listed, content: Content) -> None:
        if file.file.table == "labels":
            self.labels += content.rows
        else:
            self.predictions += content.rows
        self.files += 1
        self.bytes += file.bytes


def summarize(log: Location, files: Sequence[Listed], now: datetime, spool: Path) -> Iterator[str]:
    """Yield the lines about the files of a log, and about the spool if it is on this machine."""
    contents = read_each(files, lambda each: _content(log, each))
    sums: defaultdict[tuple[str, str], _Sum] = defaultdict(_Sum)
    total = _Sum()
    for file, content in zip(files, contents, strict=True):
        if content is not None:
            sums[str(file.file.day), file.file.version].add(file, content)
            total.add(file, content)
    lines = [(*key, each) for key, each in sorted(sums.items())]
    yield from aligned(_NAMES, [_row(*line) for line in [*lines, ("total", "", total)]])
    if damaged := contents.count(None):
        yield f"{damaged} damaged files are not counted"
    yield from _lag([each.latest for each in contents if each and each.latest], now)
    yield from _waiting(spool, now)


def _content(log: Location, file: Listed) -> Content:
    metadata = pq.read_metadata(file.path, filesystem=log.filesystem)
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    columns = [group.column(at) for group in groups for at in range(group.num_columns)]
    times = [
        column.statistics.max
        for column in columns
        if column.path_in_schema == PREDICTED_AT
        and column.statistics
        and column.statistics.has_min_max
    ]
    return Content(metadata.num_rows, max(times, default=None))


def _row(day: str, version: str, held: _Sum) -> list[tuple[str, bool]]:
    counts = (held.predictions, held.labels, held.files, held.bytes)
    return [(day, False), (version, False), *((f"{count:,}", True) for count in counts)]


def _lag(latest: list[datetime], now: datetime) -> Iterator[str]:
    if latest:
        newest = max(latest)
        age = (now - newest).total_seconds()
        yield f"latest prediction: {newest:%Y-%m-%d %H:%M:%S} UTC, {age:.0f} s ago"


def _waiting(spool: Path, now: datetime) -> Iterator[str]:
    """Say what the spool holds for the log: a segment is named after the time of its start."""
    names = sorted(
        path.name for path in spool.glob(f"*{SUFFIX}") if not path.name.endswith(PUBLISHED_SUFFIX)
    )
    if not names:
        return
    begun = datetime.fromtimestamp(int(names[0].partition("-")[0]) / 1e9, UTC)
    age = (now - begun).total_seconds()
    yield f"not in the log yet: {len(names)} segments of the spool, the oldest {age:.0f} s old"
