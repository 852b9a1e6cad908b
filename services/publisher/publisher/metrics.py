"""Every metric family of the publisher."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from publisher.errors import CAUSES, REASONS, Cause, Reason
from publisher.spool import PUBLISHED_SUFFIX, SUFFIX, Position, Spool

KINDS = ("prediction", "label")
_CHUNK_BYTES = 1 << 20


class Metrics:
    """The families; every series exists from the start, at 0."""

    def __init__(self, spool: Spool) -> None:
        self.registry = CollectorRegistry()
        self._published = Counter(
            "publisher_events",
            "Events that Fiddler has accepted.",
            ["kind"],
            registry=self.registry,
        )
        self._quarantined = Counter(
            "publisher_quarantined_events",
            "Events that Fiddler rejected as invalid and lines that could not be decoded.",
            ["kind"],
            registry=self.registry,
        )
        self._failures = Counter(
            "publisher_failures",
            "Requests to Fiddler that failed and are retried, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "publisher_stopped",
            "1 if publishing has stopped for this reason until it is fixed.",
            ["reason"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            "publisher_last_success_timestamp_seconds",
            "Unix time at which Fiddler last accepted events, 0 before the first.",
            registry=self.registry,
        )
        self._baseline = Gauge(
            "publisher_baseline_published",
            "1 if Fiddler has the bundle's reference rows.",
            registry=self.registry,
        )
        for kind in KINDS:
            self._published.labels(kind)
            self._quarantined.labels(kind)
        for cause in CAUSES:
            self._failures.labels(cause)
        for reason in REASONS:
            self._stopped.labels(reason)
        self.registry.register(_Backlog(spool))

    def count_published(self, kind: str, events: int) -> None:
        """Count events that Fiddler has accepted."""
        self._published.labels(kind).inc(events)
        self._last_success.set_to_current_time()

    def count_quarantined(self, kind: str) -> None:
        """Count a quarantined event."""
        self._quarantined.labels(kind).inc()

    def count_failure(self, cause: Cause) -> None:
        """Count a request that will be retried."""
        self._failures.labels(cause).inc()

    def mark_stopped(self, reason: Reason) -> None:
        """Set the gauge of a reason for which publishing has stopped."""
        self._stopped.labels(reason).set(1)

    def mark_baseline_published(self) -> None:
        """Set the gauge of the published baseline."""
        self._baseline.set(1)


class _Backlog(Collector):
    """The spool's backlog, measured at each scrape, even while a request hangs for minutes."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool
        self._counted: dict[str, tuple[int, int]] = {}

    def collect(self) -> Iterable[Metric]:
        """Return the backlog's families."""
        positions = self._spool.positions
        size = events = 0
        oldest = now = time.time()
        counted: dict[str, tuple[int, int]] = {}
        for path in sorted(self._spool.directory.glob(f"*{SUFFIX}")):
            if path.name.endswith(PUBLISHED_SUFFIX):
                continue
            position = positions.get(path.name, Position(0, 0))
            try:
                counted[path.name] = end, lines = self._count(path)
                oldest = min(oldest, _next_event_time(path, position.predictions, now))
            except FileNotFoundError:
                continue
            size += end - position.labels
            # The header is a line but not an event.
            events += max(0, lines - 1 - position.lines + position.labels_waiting)
        self._counted = counted
        yield _gauge("publisher_backlog_bytes", "Unpublished bytes in the spool.", size)
        yield _gauge("publisher_backlog_events", "Unpublished events in the spool.", events)
        yield _gauge(
            "publisher_backlog_age_seconds",
            "Age of the oldest unpublished event, 0 if there is none.",
            max(0.0, now - oldest),
        )

    def _count(self, path: Path) -> tuple[int, int]:
        """Return the size and line count of a segment; reads only what the last scrape did not."""
        offset, lines = self._counted.get(path.name, (0, 0))
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK_BYTES):
                offset += len(chunk)
                lines += chunk.count(b"\n")
        return offset, lines


def _next_event_time(path: Path, offset: int, default: float) -> float:
    """Return the time (s since 1970) of the first event at or after `offset`, or `default`."""
    with path.open("rb") as file:
        file.seek(offset)
        if offset == 0:
            file.readline()
        line = file.readline()
    try:
        return float(json.loads(line)["time"])
    except (ValueError, LookupError, TypeError):
        return default


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
