"""The log's tables as datasets: all versions together, their columns united by name."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow.fs import FileSystem

from publisher.cells import TIME
from publisher.layout import ACTUAL, ID, LABELLED_AT, PREDICTED_AT, PREDICTION, Table, header_of
from publisher.listing import Listed, list_files
from tools.log.errors import LogError
from tools.log.footers import ends, intact, read_schemas
from tools.log.location import Location

DAY, VERSION = "day", "version"
_PARQUET = ds.ParquetFileFormat()
_OWN: dict[Table, list[tuple[str, pa.DataType]]] = {
    "predictions": [(ID, pa.string()), (PREDICTED_AT, TIME), (PREDICTION, pa.float64())],
    "labels": [(ID, pa.string()), (LABELLED_AT, TIME), (ACTUAL, pa.float64())],
}


@dataclass
class Tables:
    """The tables of a log, and the files that were left out."""

    predictions: ds.Dataset
    labels: ds.Dataset
    versions: frozenset[str]
    classifications: frozenset[str]
    """The versions whose predictions are classes."""
    damaged: list[Listed] = field(default_factory=list)


def listed(log: Location) -> list[Listed]:
    """Return the files of a log, at least one. Raises LogError."""
    try:
        files = list_files(log.filesystem, log.path)
    except OSError as error:
        raise LogError(f"{log.url}: {' '.join(str(error).split())}") from error
    if not files:
        raise LogError(
            f"{log.url} holds no prediction yet: with PREDICTION_LOG the model's predictions arrive"
            " there a minute or two after they were made"
        )
    return files


def open_tables(log: Location, *, check: bool = False) -> Tables:
    """Return the tables of a log; with `check`, of its intact files only. Raises LogError."""
    files = listed(log)
    usable = intact(log.filesystem, files) if check else files
    sampled = ends(usable)
    schemas = read_schemas(log.filesystem, sampled)
    if not check and None in schemas:
        return open_tables(log, check=True)
    damaged = [each for each in files if each not in {*usable}]
    return _tables(log.filesystem, usable, [*zip(sampled, schemas, strict=True)], damaged)


def _tables(
    filesystem: FileSystem,
    files: Sequence[Listed],
    sampled: Sequence[tuple[Listed, pa.Schema | None]],
    damaged: list[Listed],
) -> Tables:
    known = [(file, schema) for file, schema in sampled if schema is not None]
    # A label's file has the header of the model that ran when the label arrived.
    of_versions = {
        file.file.version: header_of(schema).target.classes
        for file, schema in known
        if file.file.table == "predictions"
    }
    return Tables(
        _dataset(filesystem, "predictions", files, known),
        _dataset(filesystem, "labels", files, known),
        frozenset(of_versions),
        frozenset(version for version, classes in of_versions.items() if classes),
        damaged,
    )


def _dataset(
    filesystem: FileSystem,
    table: Table,
    files: Iterable[Listed],
    known: Sequence[tuple[Listed, pa.Schema]],
) -> ds.Dataset:
    """Return a table; its day and version are columns, by which whole files are left out."""
    united = unite([schema for file, schema in known if file.file.table == table], table)
    fragments = [
        _PARQUET.make_fragment(
            each.path,
            filesystem,
            partition_expression=(ds.field(DAY) == pa.scalar(each.file.day))
            & (ds.field(VERSION) == each.file.version),
        )
        for each in files
        if each.file.table == table
    ]
    return ds.FileSystemDataset(fragments, united, _PARQUET, filesystem)


def unite(schemas: Sequence[pa.Schema], table: Table) -> pa.Schema:
    """Return the columns of all schemas, by name, those of the newest one first."""
    types: dict[str, pa.DataType] = {DAY: pa.date32(), VERSION: pa.string()}
    for schema in reversed(schemas):
        for column in schema:
            types[column.name] = _common(types.get(column.name, column.type), column.type)
    for name, type_ in _OWN[table]:
        types.setdefault(name, type_)
    return pa.schema([*types.items()])


def _common(one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """Return the type that holds the values of both: of numbers double, otherwise text."""
    if one == other:
        return one
    numbers = {pa.int64(), pa.float64()}
    return pa.float64() if {one, other} <= numbers else pa.string()
