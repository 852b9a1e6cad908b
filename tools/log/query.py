"""Ask the log in SQL, by DuckDB: the views `predictions`, `labels` and `labelled`."""

import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa

from publisher.layout import ACTUAL, ID, LABELLED_AT, PREDICTION
from tools.log.errors import LogError
from tools.log.location import Location
from tools.log.tables import VERSION, Tables, open_tables

# Columns of `labelled`; a feature of such a name gets a prefix there.
_OF_LABELS = (LABELLED_AT, ACTUAL, "error", "correct")
_PREFIX = "feature_"
# A query that is wrong is wrong whatever the files hold.
_WRONG = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)
_ROWS = 10_000
# An installation of an extension would need the network, and a table is never a Python variable.
_CONFIG = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "python_enable_replacements": "false",
}


def ask(log: Location, query: str, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Return the answer to a query in batches, at least one.

    Files that cannot be read are left out and reported on stderr. What does not fit into memory
    goes to the directory `scratch`. Raises LogError.
    """
    tables = open_tables(log)
    try:
        return _ask(tables, query, scratch)
    except _WRONG as error:
        raise LogError(_line(error)) from error
    except duckdb.Error as error:
        # Maybe a file is damaged, or was removed by the retention since it was listed.
        tables = open_tables(log, check=True)
        try:
            return _ask(tables, query, scratch)
        except duckdb.Error:
            raise LogError(_line(error)) from error


def _ask(tables: Tables, query: str, scratch: Path) -> Iterator[pa.RecordBatch]:
    """Return the answer, whose first batch has been read already. Raises duckdb.Error."""
    for each in tables.damaged:
        print(f"log: {each.path} is damaged and left out", file=sys.stderr)
    connection = connect(tables, scratch)
    relation = connection.sql(query)
    if relation is None:
        raise LogError("the query has no answer: it must be a select")
    reader = relation.to_arrow_reader(_ROWS)
    first = next(reader, pa.RecordBatch.from_pylist([], schema=reader.schema))
    return chain([first], _rest(connection, reader))


def _rest(
    connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader
) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        raise LogError(_line(error)) from error
    finally:
        connection.close()


def connect(tables: Tables, scratch: Path) -> duckdb.DuckDBPyConnection:
    """Return a database in memory with the views."""
    connection = duckdb.connect(config=_CONFIG | {"temp_directory": str(scratch)})
    connection.execute("set TimeZone = 'UTC'")
    connection.execute("set enable_progress_bar = false")
    for name, dataset in (("predictions", tables.predictions), ("labels", tables.labels)):
        connection.register(f"all_{name}", dataset)
        connection.execute(f"create view {name} as from all_{name}")
    described = connection.execute("describe predictions").fetchall()
    connection.execute(_labelled([row[0] for row in described], tables))
    return connection


def _labelled(columns: Iterable[str], tables: Tables) -> str:
    """Return the view that joins each labelled prediction with its latest label."""
    chosen = ", ".join(f"p.{_quoted(name)} as {_quoted(_renamed(name))}" for name in columns)
    return f"""
        create view labelled as
        select {chosen}, l.{LABELLED_AT}, l.{ACTUAL}, {", ".join(_outcomes(tables))}
        from predictions p join (
            select
                {ID}, {VERSION},
                max({LABELLED_AT}) as {LABELLED_AT}, arg_max({ACTUAL}, {LABELLED_AT}) as {ACTUAL}
            from labels group by {ID}, {VERSION}
        ) l on p.{ID} = l.{ID} and p.{VERSION} = l.{VERSION}
    """  # noqa: S608 all names are quoted


def _outcomes(tables: Tables) -> Iterator[str]:
    """Yield the columns that compare prediction and truth, as the versions' tasks need them.

    If the log holds both tasks, numbers are text in it.
    """
    names = ", ".join(_text(each) for each in sorted(tables.classifications))
    is_class = f"p.{VERSION} in ({names})" if names else "false"
    if not tables.classifications >= tables.versions:
        prediction, actual = (
            f"try_cast({each} as double)" for each in (f"p.{PREDICTION}", f"l.{ACTUAL}")
        )
        yield f"case when not {is_class} then {prediction} - {actual} end as error"
    if names:
        yield f"case when {is_class} then p.{PREDICTION} = l.{ACTUAL} end as correct"


def _renamed(name: str) -> str:
    return _PREFIX + name if name.lower() in _OF_LABELS else name


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _line(error: Exception) -> str:
    """Return DuckDB's message without the query that it repeats."""
    return " ".join(str(error).partition("LINE ")[0].split())
