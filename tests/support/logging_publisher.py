"""The prediction log's publisher as a process, and the rows that it has written."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from publisher.layout import Table, open_root, parse_path
from tests.support.publisher import PublisherProgram, publishing

PARQUET = "publisher.parquet:Parquet"


@contextmanager
def logging_predictions(
    spool: Path, root: str, log: Path, **settings: str
) -> Iterator[PublisherProgram]:
    """Run a publisher from a spool to a log while the block runs."""
    settings = {"PUBLISHER_DESTINATION": PARQUET, "PREDICTION_LOG": root} | settings
    with publishing(spool, "", log, **settings) as publisher:
        yield publisher


def read_rows(root: str, table: Table) -> pa.Table:
    """Return the rows of all files of a table, in no order."""
    filesystem, path = open_root(root)
    found = filesystem.get_file_info(
        fs.FileSelector(f"{path}/{table}", recursive=True, allow_not_found=True)
    )
    files = [each.path for each in found if each.type == fs.FileType.File]
    # Readers ignore names that begin with a dot: a file that is being written.
    files = [each for each in files if not each.rpartition("/")[2].startswith(".")]
    assert all(map(parse_path, files)), files
    if not files:
        return pa.table({"prediction_id": pa.array([], pa.string())})
    return pa.concat_tables([pq.ParquetFile(each, filesystem=filesystem).read() for each in files])
