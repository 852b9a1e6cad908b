"""The prediction log: Parquet files in a directory or an object store; layout.py says which.

Each file is made of one segment alone, so a segment that is sent again replaces its files: every
event is there exactly once.
"""

import logging
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Annotated

from prometheus_client import CollectorRegistry, Counter
from pydantic import Field

from publisher.destination import Batch, Destination
from publisher.events import Event
from publisher.header import Header
from publisher.layout import LayoutError, LogFile, checker, day_of, open_root, table_of, to_table
from publisher.retention import Limits, expire
from publisher.settings import Environment, SettingsError, read_settings
from publisher.store import Store, explained

_HOUR = 3_600.0

log = logging.getLogger(__name__)


class LogSettings(Environment):
    """Where the log is and how much of it is kept."""

    prediction_log: Annotated[
        str, Field(description="Root of the log: a directory, s3://… or gs://…")
    ]
    prediction_log_keep_days: Annotated[
        int, Field(ge=0, description="Days before today that the log keeps; 0: all")
    ] = 0
    prediction_log_max_bytes: Annotated[
        int, Field(ge=0, description="Largest size of the log without today; 0: any")
    ] = 0


class Parquet(Destination):
    """Writes a file for each day and version of a segment's events."""

    whole_segments = True

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        settings = read_settings(LogSettings)
        self._url = settings.prediction_log
        try:
            self._store = Store(*open_root(self._url))
        except (LayoutError, OSError) as error:
            raise SettingsError(f"PREDICTION_LOG: {error}") from error
        self._limits = Limits(settings.prediction_log_keep_days, settings.prediction_log_max_bytes)
        self._clock = clock
        self._expires_at = clock()
        self._files = Counter(
            "publisher_log_removed_files",
            "Files of the prediction log that were removed because of their age or its size.",
            registry=None,
        )
        self._bytes = Counter(
            "publisher_log_removed_bytes",
            "Bytes of these files.",
            registry=None,
        )

    def measure(self, registry: CollectorRegistry) -> None:
        """Register what counts the removed files."""
        registry.register(self._files)
        registry.register(self._bytes)

    def checker(self, header: Header) -> Callable[[Event], None]:
        """Return a check that an event fits its columns."""
        return checker(header)

    def publish(self, batch: Batch) -> None:
        """Write the events, a file for each day. Raises TransientError or StoppedError."""
        table, version = table_of(batch.kind), batch.model.version
        files: defaultdict[LogFile, list[Event]] = defaultdict(list)
        for event in batch.events:
            files[LogFile(table, day_of(event), version, batch.segment)].append(event)
        for file, events in files.items():
            with explained(self._url):
                self._store.write(file.path, to_table(batch.header, batch.kind, events))

    def work(self) -> None:
        """Remove old days, once an hour. Never raises: events matter more than room."""
        if self._clock() < self._expires_at:
            return
        self._expires_at = self._clock() + _HOUR
        try:
            removed = expire(self._store.filesystem, self._store.root, self._limits, time.time())
        except OSError as error:
            log.warning("old days of the log were not removed: %s", error)
            return
        self._files.inc(removed.files)
        self._bytes.inc(removed.bytes)
        if removed.days:
            log.info(
                "removed %d days up to %s from the log: %d files, %d bytes",
                *(len(removed.days), removed.days[-1], removed.files, removed.bytes),
            )
