"""Read the prediction log in Parquet files, of a directory or an object store."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from publisher.events import Label, Prediction
from publisher.header import DamagedHeaderError, Header, UnknownHeaderError
from publisher.layout import Table, header_of, to_labels, to_predictions
from publisher.listing import Listed
from tools.log.errors import LogError
from tools.log.location import Location
from tools.log.tables import listed
from tools.replay.log import PART, Log, ReplayError

T = TypeVar("T", Label, Prediction)
# Files that are read while another one is compared: an object store answers slowly.
_AHEAD = 4


class ParquetLog(Log):
    """The files of a log, each of which holds a part of one segment of a spool."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self._location = location
        try:
            self._files = listed(location)
        except LogError as error:
            raise ReplayError(str(error)) from error

    def predictions(self) -> Iterator[tuple[Header, Iterable[Prediction]]]:
        """Yield the predictions, at most 1,000 at a time."""
        yield from self._events("predictions", lambda table, _: to_predictions(table))

    def label_events(self) -> Iterator[tuple[Header, Iterable[Label]]]:
        """Yield the labels, at most 1,000 at a time."""
        yield from self._events("labels", lambda table, file: to_labels(table, file.file.version))

    def _events(
        self, name: Table, convert: Callable[[pa.Table, Listed], list[T]]
    ) -> Iterator[tuple[Header, list[T]]]:
        """Yield the events of each file; what is damaged is counted and skipped."""
        files = [each for each in self._files if each.file.table == name]
        for file, table in self._tables(files):
            try:
                for part in _slices(table):
                    yield header_of(part.schema), convert(part, file)
            except UnknownHeaderError as error:
                raise ReplayError(f"{file.path} has a format that is not known here") from error
            except (LookupError, ValueError, DamagedHeaderError):
                self.damage.files += 1

    def _tables(self, files: Iterable[Listed]) -> Iterator[tuple[Listed, pa.Table | None]]:
        """Yield each file and its content, None if it is damaged."""
        waiting: deque[tuple[Listed, Future[pa.Table | None]]] = deque()
        with ThreadPoolExecutor(_AHEAD) as pool:
            for file in files:
                waiting.append((file, pool.submit(self._read, file)))
                if len(waiting) > _AHEAD:
                    first, table = waiting.popleft()
                    yield first, table.result()
            for first, table in waiting:
                yield first, table.result()

    def _read(self, file: Listed) -> pa.Table | None:
        try:
            with pq.ParquetFile(file.path, filesystem=self._location.filesystem) as parquet:
                return parquet.read()
        except (OSError, pa.ArrowException):
            return None


def _slices(table: pa.Table | None) -> Iterator[pa.Table]:
    """Yield the rows of a file, at most 1,000 at a time. Raises ValueError if it is damaged."""
    if table is None:
        raise ValueError("not readable")
    for start in range(0, table.num_rows, PART):
        yield table.slice(start, PART)
