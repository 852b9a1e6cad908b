"""Read the footers of a log's files, many at a time, and find damaged files."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow.fs import FileSystem

from publisher.layout import header_of
from publisher.listing import Listed

T = TypeVar("T")
# An object store answers after tens of milliseconds, but many requests at once.
_THREADS = 32


def read_each(files: Iterable[Listed], read: Callable[[Listed], T]) -> list[T | None]:
    """Return what is read from each file, None for those that are damaged or gone."""
    with ThreadPoolExecutor(_THREADS) as pool:
        return [*pool.map(lambda each: _try(read, each), files)]


def _try(read: Callable[[Listed], T], file: Listed) -> T | None:
    try:
        return read(file)
    except (OSError, pa.ArrowException):
        return None


def read_schemas(filesystem: FileSystem, files: Iterable[Listed]) -> list[pa.Schema | None]:
    """Return the schema of each file, None for what is damaged, gone, or of something else."""

    def read(file: Listed) -> pa.Schema | None:
        found = pq.read_schema(file.path, filesystem=filesystem)
        return found if _is_of_a_log(found) else None

    return read_each(files, read)


def _is_of_a_log(found: pa.Schema) -> bool:
    try:
        header_of(found)
    except Exception:  # noqa: BLE001 whatever it is, it has not the columns of the log
        return False
    return True


def intact(filesystem: FileSystem, files: Sequence[Listed]) -> list[Listed]:
    """Return the files that can be read from the first to the last byte."""

    def read(file: Listed) -> bool:
        with pq.ParquetFile(file.path, filesystem=filesystem) as parquet:
            for _ in parquet.iter_batches():
                pass
            return _is_of_a_log(parquet.schema_arrow)

    return [file for file, good in zip(files, read_each(files, read), strict=True) if good]


def ends(files: Iterable[Listed]) -> list[Listed]:
    """Return the first and the last file of each table, day and version.

    Columns change with the version, or when a restarted model logs other features.
    """
    chosen: list[Listed] = []
    for _, group in groupby(sorted(files, key=_place), key=lambda each: _place(each)[:3]):
        first, *rest = group
        chosen += [first, *rest[-1:]]
    return chosen


def _place(each: Listed) -> tuple[str, str, str, str]:
    return each.file.table, str(each.file.day), each.file.version, each.file.segment
