"""Prediction logs for tests, written as the sink writes them."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq
from pyarrow import fs

from bundle.load import load_manifest
from publisher.events import KINDS, Event, Kind, Label, decoder
from publisher.header import Column, Header, read_header
from publisher.layout import LogFile, day_of, table_of, to_table
from publisher.spool import read_lines
from serving.events import Label as SpooledLabel
from serving.events import Prediction as Spooled
from tests.support.example import TARGET, drifted_rows, held_out_rows, without_target
from tests.support.spool import spool_of
from tools.replay.predict import with_bundle

LOCAL = fs.LocalFileSystem()
_DAY = 86_400.0
_MORNING = 1_795_680_000.0  # of 26 November 2026
_Place = tuple[date, str]


def log_segment(segment: Path, root: str, filesystem: fs.FileSystem = LOCAL) -> list[str]:
    """Log a segment of a spool and return the paths of the files."""
    first = segment.read_bytes().partition(b"\n")[0]
    header, start, size = read_header(first), len(first) + 1, segment.stat().st_size
    paths: list[str] = []
    for kind in KINDS:
        decode = decoder(header, kind)
        found = read_lines(segment, start, size, size, labels=kind == "label")
        events = [*map(decode, found.lines)]
        paths += log_events(root, header, events, segment.stem, filesystem)
    return paths


def log_events(
    root: str,
    header: Header,
    events: Iterable[Event],
    segment: str,
    filesystem: fs.FileSystem = LOCAL,
) -> list[str]:
    """Log events of one kind and return the paths of the files, one for each day and version."""
    groups: defaultdict[_Place, list[Event]] = defaultdict(list)
    for event in events:
        version = event.version if isinstance(event, Label) else header.version
        groups[day_of(event), version].append(event)
    paths = []
    for (day, version), group in groups.items():
        kind: Kind = "label" if isinstance(group[0], Label) else "prediction"
        path = f"{root}/{LogFile(table_of(kind), day, version, segment).path}"
        filesystem.create_dir(path.rpartition("/")[0])
        pq.write_table(
            to_table(header, kind, group), path, filesystem=filesystem, compression="zstd"
        )
        paths.append(path)
    return paths


def log_spool(spool: Path, root: str, filesystem: fs.FileSystem = LOCAL) -> list[str]:
    """Log every segment of a spool and return the paths of the files."""
    segments = sorted(spool.glob("*.jsonl"))
    return [path for each in segments for path in log_segment(each, root, filesystem)]


def log_example(bundle: Path, spool: Path, root: str) -> None:
    """Log the example's held-out rows, a day later its first 500 drifted rows, and all labels."""
    manifest, predict = load_manifest(bundle), with_bundle(bundle)
    columns = [Column(name=each.name) for each in manifest.features]
    days = (held_out_rows(bundle), drifted_rows(bundle)[:500])
    for day, rows in enumerate(days):
        inputs = [tuple(without_target(row).values()) for row in rows]
        start = _MORNING + day * _DAY
        ids = [f"{day}-{at:03}" for at in range(len(rows))]
        made = [
            Spooled(ids[at], start + 60.0 * at, inputs[at], prediction or 0.0)
            for at, prediction in enumerate(predict(columns, [*inputs]))
        ]
        labels = [
            SpooledLabel(ids[at], start + 60.0 * at + 30.0, manifest.version, row[TARGET])
            for at, row in enumerate(rows)
        ]
        spool_of(spool, manifest, [*made, *labels])
    log_spool(spool, root)
