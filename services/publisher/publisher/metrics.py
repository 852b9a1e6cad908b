"""Every metric family of the publisher."""

import json
import time
from collections.abc import Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from publisher.barrier import Barrier
from publisher.errors import CAUSES, REASONS, Cause, Reason
from publisher.events import KINDS
from publisher.spool import LABEL, PUBLISHED_SUFFIX, SUFFIX, Position, Spool

_CHUNK_BYTES = 1 << 20


class Metrics:
    """The families; every series exists from the start, at 0."""

    def __init__(self, spool: Spool, barrier: Barrier) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._published = Counter(
            "publisher_events",
            "Events that the destination has accepted.",
            ["kind"],
            registry=self.registry,
        )
        self._quarantined = Counter(
            "publisher_quarantined_events",
            "Events that the destination rejected as invalid and lines that could not be decoded.",
            ["kind"],
            registry=self.registry,
        )
        self._lost = Counter(
            "publisher_lost_events",
            "Rejected events that the quarantine had no room for.",
            registry=self.registry,
        )
        self._failures = Counter(
            "publisher_failures",
            "Requests that failed and are retried, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "publisher_stopped",
            "1 if nothing is published for this reason, except for a try every 10 to 15 minutes.",
            ["reason"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            "publisher_last_success_timestamp_seconds",
            "Unix time at which the destination last accepted events, 0 before the first.",
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
        self.registry.register(_Backlog(spool, barrier))

    def count_published(self, kind: str, events: int) -> None:
        """Count events that the destination has accepted; so publishing has not stopped."""
        self._published.labels(kind).inc(events)
        self.clear_stopped()
        self._last_success.set_to_current_time()

    def count_quarantined(self, kind: str) -> None:
        """Count a quarantined event."""
        self._quarantined.labels(kind).inc()

    def count_lost(self, events: int) -> None:
        """Count rejected events that could not be kept."""
        self._lost.inc(events)

    def count_failure(self, cause: Cause) -> None:
        """Count a request that will be retried."""
        self._failures.labels(cause).inc()

    def mark_stopped(self, reason: Reason) -> None:
        """Set the gauge of a reason for which publishing has stopped."""
        self._stopped.labels(reason).set(1)

    def clear_stopped(self) -> None:
        """Reset the gauges of all reasons."""
        for reason in REASONS:
            self._stopped.labels(reason).set(0)

    def mark_baseline_published(self) -> None:
        """Set the gauge of the published baseline."""
        self._baseline.set(1)


class _Backlog(Collector):
    """The state of the spool, measured at each scrape, even while a request hangs for minutes."""

    def __init__(self, spool: Spool, barrier: Barrier) -> None:
        self._spool = spool
        self._barrier = barrier
        self._counted: dict[str, tuple[int, int]] = {}
        self._label_times: dict[tuple[str, int], float] = {}

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        yield from self._backlog()
        yield _gauge(
            "publisher_settled_timestamp_seconds",
            "All predictions spooled before this Unix time are stored at the destination.",
            self._barrier.settled,
        )
        segments = GaugeMetricFamily(
            "publisher_unreadable_segments",
            "Segments that are not published because their header is damaged or not understood.",
            labels=["reason"],
        )
        segments.add_metric(["damaged"], self._spool.unreadable())
        segments.add_metric(["unknown"], len(self._spool.unknown))
        yield segments
        yield CounterMetricFamily(
            "publisher_position_failures",
            "Failed writes of the position file: after a restart, events are sent again.",
            value=self._spool.save_failures,
        )

    def _backlog(self) -> Iterable[Metric]:
        positions = self._spool.positions
        size = events = 0
        age = 0.0
        counted: dict[str, tuple[int, int]] = {}
        label_times: dict[tuple[str, int], float] = {}
        for path in sorted(self._spool.directory.glob(f"*{SUFFIX}")):
            if path.name.endswith(PUBLISHED_SUFFIX):
                continue
            position = positions.get(path.name, Position(0, 0))
            try:
                counted[path.name] = end, lines = self._count(path)
                age = max(age, self._age(path, position, label_times))
            except FileNotFoundError:
                continue
            size += end - position.labels
            # The header is a line but not an event.
            events += max(0, lines - 1 - position.lines + position.labels_waiting)
        self._counted, self._label_times = counted, label_times
        yield _gauge("publisher_backlog_bytes", "Unpublished bytes in the spool.", size)
        yield _gauge("publisher_backlog_events", "Unpublished events in the spool.", events)
        yield _gauge(
            "publisher_backlog_age_seconds",
            "Age of the oldest unpublished event, 0 if there is none; a label's counts from when it"
            " could have been sent.",
            age,
        )

    def _age(
        self, path: Path, position: Position, label_times: dict[tuple[str, int], float]
    ) -> float:
        """Return the age in seconds of the oldest unpublished event of a segment."""
        now = time.time()
        age = now - _next_event_time(path, position.predictions, now)
        if position.labels_waiting:
            key = (path.name, position.labels)
            oldest = self._label_times.get(key) or _next_label_time(path, position.labels, now)
            label_times[key] = oldest
            age = max(age, now - oldest - self._barrier.delay)
        return age

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
        return _time(file.readline(), default)


def _next_label_time(path: Path, offset: int, default: float) -> float:
    """Return the time (s since 1970) of the first label at or after `offset`, or `default`."""
    with path.open("rb") as file:
        file.seek(offset)
        label = next((line for line in file if line.startswith(LABEL)), b"")
    return _time(label, default)


def _time(line: bytes, default: float) -> float:
    """Return the time of an event, or `default` for a damaged line."""
    try:
        return min(float(json.loads(line)["time"]), default)
    except (ValueError, LookupError, TypeError, OverflowError):
        return default


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value=value)
