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
    """The families, each series at 0 from the start."""

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
            "Events that Fiddler refused as invalid, or that no line could be read from.",
            ["kind"],
            registry=self.registry,
        )
        self._failures = Counter(
            "publisher_failures",
            "Requests to Fiddler that failed and are tried again, by cause.",
            ["cause"],
            registry=self.registry,
        )
        self._stopped = Gauge(
            "publisher_stopped",
            "1 where nothing is published until a person changes something.",
            ["reason"],
            registry=self.registry,
        )
        self._last_success = Gauge(
            "publisher_last_success_timestamp_seconds",
            "When Fiddler last accepted events; 0 before the first.",
            registry=self.registry,
        )
        self._baseline = Gauge(
            "publisher_baseline_published",
            "1 where Fiddler has the reference rows of the bundle.",
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

    def published(self, kind: str, events: int) -> None:
        """Count events that Fiddler has accepted."""
        self._published.labels(kind).inc(events)
        self._last_success.set_to_current_time()

    def quarantined(self, kind: str) -> None:
        """Count an event that was set aside."""
        self._quarantined.labels(kind).inc()

    def failed(self, cause: Cause) -> None:
        """Count a request that is going to be tried again."""
        self._failures.labels(cause).inc()

    def stopped(self, reason: Reason) -> None:
        """State that nothing is published any more."""
        self._stopped.labels(reason).set(1)

    def has_baseline(self) -> None:
        """State that Fiddler has the reference rows."""
        self._baseline.set(1)


class _Backlog(Collector):
    """What waits in the spool, measured at each scrape: also while a request hangs for minutes."""

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
                oldest = min(oldest, _next_time(path, position.predictions, now))
            except FileNotFoundError:
                continue
            size += end - position.labels
            # The header is a line, but no event.
            events += max(0, lines - 1 - position.lines + position.labels_waiting)
        self._counted = counted
        yield _gauge("publisher_backlog_bytes", "Bytes in the spool not published yet.", size)
        yield _gauge("publisher_backlog_events", "Events in the spool not published yet.", events)
        yield _gauge(
            "publisher_backlog_age_seconds",
            "Age of the oldest event not published yet, 0 where there is none.",
            max(0.0, now - oldest),
        )

    def _count(self, path: Path) -> tuple[int, int]:
        """Return size and lines of a segment; only what is new since the last scrape is read."""
        offset, lines = self._counted.get(path.name, (0, 0))
        with path.open("rb") as file:
            file.seek(offset)
            while chunk := file.read(_CHUNK_BYTES):
                offset += len(chunk)
                lines += chunk.count(b"\n")
        return offset, lines


def _next_time(path: Path, offset: int, default: float) -> float:
    """Return the time (s since 1970) of the first event from `offset` on, or `default`."""
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
