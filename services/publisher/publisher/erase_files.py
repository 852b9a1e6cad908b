"""Erase predictions and labels from the files of the prediction log, by id."""

import fcntl
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem, LocalFileSystem

from publisher.layout import ID, SUFFIX, TABLES, Table
from publisher.listing import Listed, list_files
from publisher.store import Store

_THREADS = 16
# The publisher may write the same file again at the same time.
_MARK = ".erase"


class UnreadableError(Exception):
    """A file cannot be searched; the message is one line and says which and why."""


@dataclass
class ErasedRows:
    """Rows that were erased, by table, and the ids that they had."""

    rows: Counter[Table] = field(default_factory=Counter)
    ids: set[str] = field(default_factory=set)
    files: int = 0
    unreadable: list[str] = field(default_factory=list)
    """The files that could not be searched, and why."""

    def add(self, table: Table, found: Sequence[str]) -> None:
        """Count the rows of a file, by the ids that they had."""
        self.rows[table] += len(found)
        self.ids.update(found)
        self.files += bool(found)

    def __iadd__(self, other: "ErasedRows") -> Self:
        self.rows += other.rows
        self.ids |= other.ids
        self.files += other.files
        self.unreadable += (each for each in other.unreadable if each not in self.unreadable)
        return self


def erase_files(
    filesystem: FileSystem,
    root: str,
    ids: Collection[str],
    segments: Collection[str] | None = None,
) -> ErasedRows:
    """Erase ids from all files, or from those of some segments. Raises OSError.

    Every footer is read. It has the smallest and the largest id of its file, so that the ids are
    read only where one may be. A file is replaced as a whole, or removed if nothing is left.
    """
    files = [
        each
        for each in list_files(filesystem, root)
        if segments is None or each.file.segment in segments
    ]
    store, wanted, erased = Store(filesystem, root, _MARK), sorted(ids), ErasedRows()
    with ThreadPoolExecutor(_THREADS) as pool:
        searches = [pool.submit(_erase, store, each, wanted) for each in files]
        for file, search in zip(files, searches, strict=True):
            try:
                erased.add(file.file.table, search.result())
            except UnreadableError as error:
                erased.unreadable.append(str(error))
    return erased


def _erase(store: Store, file: Listed, wanted: list[str]) -> list[str]:
    """Return the ids of the rows that were erased. Raises UnreadableError and OSError."""
    found, left = _divide(store.filesystem, file, wanted)
    if left is None:
        return []
    if left.num_rows:
        store.write(file.file.path, left)
    else:
        store.filesystem.delete_file(file.path)
    return found


def _divide(
    filesystem: FileSystem, file: Listed, wanted: list[str]
) -> tuple[list[str], pa.Table | None]:
    """Return the wanted ids in a file, and if there are any, the rows without them."""
    try:
        with pq.ParquetFile(file.path, filesystem=filesystem) as parquet:
            if not _may_hold(parquet.metadata, wanted):
                return [], None
            ids = parquet.read([ID])[ID]
            mask = pc.is_in(ids, value_set=pa.array(wanted, pa.string()))
            found: list[str] = ids.filter(mask).to_pylist()
            return found, parquet.read().filter(pc.invert(mask)) if found else None
    except FileNotFoundError:  # the retention has removed it
        return [], None
    except (OSError, pa.ArrowException, LookupError) as error:
        reason = str(error).partition("\n")[0]
        raise UnreadableError(f"{file.path}: {reason}") from error


def _may_hold(metadata: pq.FileMetaData, wanted: list[str]) -> bool:
    """Return whether an id lies between the smallest and the largest one of a row group."""
    return any(
        _overlaps(metadata.row_group(group), wanted) for group in range(metadata.num_row_groups)
    )


def _overlaps(group: pq.RowGroupMetaData, wanted: list[str]) -> bool:
    columns = (group.column(at) for at in range(group.num_columns))
    found = next((each for each in columns if each.path_in_schema == ID), None)
    if found is None or not found.statistics or not found.statistics.has_min_max:
        return True
    at = bisect_left(wanted, found.statistics.min)
    return at < len(wanted) and wanted[at] <= found.statistics.max


def remove_unfinished(filesystem: FileSystem, root: str) -> None:
    """Remove what a killed publisher left half written in a local log. Raises OSError.

    It is not in the way of a running one, which would only try again.
    """
    if not isinstance(filesystem, LocalFileSystem):
        return
    for table in TABLES:
        for path in Path(root, table).glob(f"*/*/.*{SUFFIX}*"):
            path.unlink(missing_ok=True)


@contextmanager
def alone(filesystem: FileSystem, root: str) -> Iterator[None]:
    """Exclude others that erase from a local log: two that rewrite one file undo each other."""
    if not isinstance(filesystem, LocalFileSystem) or not Path(root).is_dir():
        yield
        return
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
