"""The layout of the prediction log: where its files are, and their columns.

    predictions/day=2026-11-27/version=3f…/01764000000250000000-1a2b3c4d.parquet
    labels/day=2026-11-28/version=3f…/01764086400500000000-5e6f7a8b.parquet

A file holds the events of one segment of the spool that belong to one day (UTC) and one model
version: of a prediction, when and by which it was made; of a label, when it was received, and the
version that made the prediction. So the content of a file depends on its segment only, and writing
it again changes nothing.

Columns of predictions: `prediction_id`, `predicted_at`, each feature under its own name,
`prediction`, and `probability_<class>` if the model has probabilities. Columns of labels:
`prediction_id`, `labelled_at`, `actual`. Times are in microseconds, UTC; categories and classes are
text. The schema's metadata have the segment's header, by which events can be read back.
"""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Literal
from urllib.parse import quote, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import pyarrow as pa
from pyarrow import fs

from publisher.categories import probability_name
from publisher.cells import TIME, conversion, to_microseconds, to_seconds
from publisher.events import Event, Kind, Label, Prediction, Value
from publisher.header import Category, Header, read_header, to_text

Table = Literal["predictions", "labels"]
TABLES: tuple[Table, ...] = ("predictions", "labels")
SPOOL_HEADER = b"spool_header"
SUFFIX = ".parquet"
ID = "prediction_id"
PREDICTED_AT = "predicted_at"
LABELLED_AT = "labelled_at"
PREDICTION = "prediction"
ACTUAL = "actual"
# Of every reader that understands the directories' names.
_PARTITIONS = ("day", "version")
_PREFIX = "feature_"
_PATH = re.compile(
    rf"(?:.*/)?(predictions|labels)/day=(\d{{4}}-\d\d-\d\d)/version=([^/]*)/([^/.][^/]*){SUFFIX}"
)
# A hanging request cannot be interrupted. What fails is tried again by the publisher.
_CONNECT_SECONDS = 5.0
_REQUEST_SECONDS = 20.0
_ATTEMPTS = 2


class LayoutError(Exception):
    """The root of a log cannot be opened; the message is one line that names it."""


@dataclass(frozen=True)
class LogFile:
    """A file of the log: the events of a segment of one day and version."""

    table: Table
    day: date
    version: str
    segment: str
    """The segment's name without its suffix."""

    @property
    def path(self) -> str:
        """The path below the root."""
        version = quote(self.version, safe="")
        return f"{self.table}/day={self.day}/version={version}/{self.segment}{SUFFIX}"


def parse_path(path: str) -> LogFile | None:
    """Return the file that a path names, with or without the root; None for any other file."""
    found = _PATH.fullmatch(path)
    if not found:
        return None
    table, day, version, segment = found.groups()
    try:
        named = date.fromisoformat(day)
    except ValueError:
        return None
    return LogFile(
        "labels" if table == "labels" else "predictions", named, unquote(version), segment
    )


def table_of(kind: Kind) -> Table:
    """Return the table of a kind of events."""
    return "labels" if kind == "label" else "predictions"


def day_of(event: Event) -> date:
    """Return the day (UTC) that an event belongs to."""
    return datetime.fromtimestamp(event.time, UTC).date()


def open_root(url: str) -> tuple[fs.FileSystem, str]:
    """Return the file system and the path of a directory, an s3:// or a gs:// URL.

    Opens no connection. Raises LayoutError.
    """
    parts = urlsplit(url)
    path = (parts.netloc + parts.path).rstrip("/")
    if parts.scheme in ("s3", "gs") and not parts.netloc:
        raise LayoutError(f"{url} has no bucket")
    if parts.scheme == "s3":
        return _s3(), path
    if parts.scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=_REQUEST_SECONDS)), path
    if "://" in url:
        raise LayoutError(f"{url} is no directory, s3:// or gs:// URL")
    return fs.LocalFileSystem(), os.path.abspath(url)  # noqa: PTH100 pyarrow's paths are text


def _s3() -> fs.S3FileSystem:
    """Return the object store of AWS or of AWS_ENDPOINT_URL, with the environment's credentials."""
    endpoint = urlsplit(
        os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    )
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    host = endpoint.hostname or "amazonaws.com"
    scheme = endpoint.scheme or "https"
    return fs.S3FileSystem(
        region=region,
        scheme=scheme,
        endpoint_override=endpoint.netloc or None,
        proxy_options=None if proxy_bypass(host) else getproxies().get(scheme),
        tls_ca_file_path=os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE"),
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
        # Below 10 MB a file is one PUT.
        allow_delayed_open=True,
    )


def schema(header: Header, kind: Kind) -> pa.Schema:
    """Return the columns of a kind of events; the metadata have the header."""
    text = header.model_dump_json(exclude_none=True).encode()
    outcome = pa.string() if header.target.classes else pa.float64()
    if kind == "label":
        fields = [(ID, pa.string()), (LABELLED_AT, TIME), (ACTUAL, outcome)]
    else:
        names = feature_names(header)
        fields = [
            *[(ID, pa.string()), (PREDICTED_AT, TIME)],
            *[(names[each.name], conversion(each).type) for each in header.features],
            (PREDICTION, outcome),
            *[(name, pa.float64()) for name in probability_names(header)],
        ]
    return pa.schema(fields, metadata={SPOOL_HEADER: text})


def header_of(found: pa.Schema) -> Header:
    """Return the header of the segment that a file was made from.

    Raises LookupError, DamagedHeaderError or UnknownHeaderError if it is no file of a log.
    """
    return read_header((found.metadata or {})[SPOOL_HEADER])


def feature_names(header: Header) -> dict[str, str]:
    """Return the name of each feature's column.

    Readers such as DuckDB ignore case, and have a column for each part of a path.
    """
    own = {ID, PREDICTED_AT, PREDICTION, *_PARTITIONS, *probability_names(header)}
    taken = {each.lower() for each in own}
    reserved = taken | {each.name.lower() for each in header.features}
    names: dict[str, str] = {}
    for column in header.features:
        name = column.name
        if name.lower() in taken:
            while name.lower() in reserved:
                name = _PREFIX + name
            reserved.add(name.lower())
        taken.add(name.lower())
        names[column.name] = name
    return names


def probability_names(header: Header) -> list[str]:
    """Return the columns of the classes' probabilities, none if the model has none."""
    classes = header.target.classes if header.prediction.probabilities else ()
    return [*map(probability_name, classes)]


def checker(header: Header) -> Callable[[Event], None]:
    """Return a check that the values of an event fit its columns.

    It raises ValueError, whose message holds no value.
    """
    writers = [(each.name, conversion(each).write) for each in header.features]

    def check(event: Event) -> None:
        if isinstance(event, Prediction):
            for (name, write), value in zip(writers, event.features, strict=True):
                try:
                    write(value)
                except (ValueError, TypeError, OverflowError):
                    raise ValueError(f"{name}: does not fit its type") from None

    return check


def to_table(header: Header, kind: Kind, events: Sequence[Event]) -> pa.Table:
    """Return a table of decoded events of a kind. Raises ValueError, see `checker`."""
    columns = (
        _label_columns(header, [each for each in events if isinstance(each, Label)])
        if kind == "label"
        else _prediction_columns(header, [each for each in events if isinstance(each, Prediction)])
    )
    wanted = schema(header, kind)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, wanted, strict=True)]
    return pa.Table.from_arrays(arrays, schema=wanted)


def _prediction_columns(header: Header, events: list[Prediction]) -> Iterable[Iterable[object]]:
    yield [each.prediction_id for each in events]
    yield [to_microseconds(each.time) for each in events]
    for place, column in enumerate(header.features):
        write = conversion(column).write
        yield [write(each.features[place]) for each in events]
    yield [_outcome(header, each.prediction) for each in events]
    for place, _ in enumerate(probability_names(header)):
        yield [(each.probabilities or ())[place] for each in events]


def _label_columns(header: Header, events: list[Label]) -> Iterable[Iterable[object]]:
    yield [each.label_of for each in events]
    yield [to_microseconds(each.time) for each in events]
    yield [_outcome(header, each.actual) for each in events]


def to_predictions(table: pa.Table) -> list[Prediction]:
    """Return the events of a table of predictions. Times are rounded to microseconds.

    Raises LookupError, ValueError, DamagedHeaderError or UnknownHeaderError if it is none.
    """
    header = header_of(table.schema)
    names = feature_names(header)
    cells = [
        _read_column(table, names[each.name], conversion(each).read) for each in header.features
    ]
    probabilities = [table[name].to_pylist() for name in probability_names(header)]
    outcome = _class_reader(header)
    return [
        Prediction(
            prediction_id=key,
            time=to_seconds(moment),
            features=tuple(column[row] for column in cells),
            prediction=outcome(prediction),
            probabilities=tuple(column[row] for column in probabilities) or None,
        )
        for row, (key, moment, prediction) in enumerate(
            zip(
                table[ID].to_pylist(),
                _moments(table, PREDICTED_AT),
                table[PREDICTION].to_pylist(),
                strict=True,
            )
        )
    ]


def to_labels(table: pa.Table, version: str) -> list[Label]:
    """Return the events of a table of labels for a version; see `to_predictions`."""
    outcome = _class_reader(header_of(table.schema))
    columns = table[ID].to_pylist(), _moments(table, LABELLED_AT), table[ACTUAL].to_pylist()
    return [
        Label(label_of=key, time=to_seconds(moment), version=version, actual=outcome(actual))
        for key, moment, actual in zip(*columns, strict=True)
    ]


def _read_column(table: pa.Table, name: str, read: Callable[[object], Value]) -> list[Value]:
    if table.schema.field(name).type == TIME:
        return [*map(read, _moments(table, name))]
    return [*map(read, table[name].to_pylist())]


def _moments(table: pa.Table, name: str) -> list[int]:
    """Return a column of times in microseconds since 1970, which may be after the year 9999."""
    found: list[int] = table[name].cast(pa.int64()).to_pylist()
    return found


def _outcome(header: Header, value: Category) -> str | float:
    return to_text(value) if header.target.classes else float(value)


def _class_reader(header: Header) -> Callable[[object], Category]:
    """Return what reads a prediction or a true value: a number, or one of the classes."""
    classes = {to_text(each): each for each in header.target.classes}

    def read(value: object) -> Category:
        if classes:
            return classes[str(value)]
        return value if isinstance(value, float) else float(str(value))

    return read
