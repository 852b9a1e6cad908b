"""The http_* families: by prometheus-fastapi-instrumentator, and by the fast path for itself.

The fast path does not pass through the library's middleware. It writes the same families as slots;
a scrape adds the two.
"""

import asyncio
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator, metrics

from serving.metrics.slots import Layout

# 0.3 s is the line that the latency objective draws.
LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5)
# What nginx calls a client that closed its connection; nobody receives it, only metrics see it.
CLIENT_CLOSED_REQUEST = 499
STATUSES = ("2xx", "4xx", "5xx")

_HELP = {
    "http_requests": "HTTP requests.",
    "http_request_duration_seconds": "Duration of HTTP requests, in seconds.",
    "http_request_size_bytes": "Content bytes of requests.",
    "http_response_size_bytes": "Content bytes of responses.",
    "http_requests_inprogress": "Number of HTTP requests in progress.",
}


def instrument(app: FastAPI) -> None:
    """Count every request to `app` by route template, method and class of status."""
    instrumentator = Instrumentator(
        should_instrument_requests_inprogress=True, inprogress_labels=True
    )
    instrumentator.add(
        metrics.requests(metric_doc=_HELP["http_requests"]),
        metrics.latency(metric_doc=_HELP["http_request_duration_seconds"], buckets=LATENCY_BOUNDS),
        metrics.request_size(metric_doc=_HELP["http_request_size_bytes"]),
        metrics.response_size(metric_doc=_HELP["http_response_size_bytes"]),
    )
    instrumentator.instrument(app)


class RouteMetrics:
    """The families of one route (POST), written by the route itself. Not for several threads.

    What happens in one turn of the event loop is written at the next, in one go.
    """

    def __init__(self, http: "HttpSlots", handler: str) -> None:
        self._http = http
        self._series = {int(status[0]): http.series[handler, status] for status in STATUSES}
        self._inprogress = http.inprogress[handler]
        self._entered = 0
        self._finished: dict[int, list[tuple[float, int, int]]] = {
            each: [] for each in self._series
        }
        self._is_due = False

    def start(self) -> None:
        """Count a request as in progress."""
        self._entered += 1
        if not self._is_due:
            self._write_soon()

    def finish(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count a request that was in progress as answered; sizes in bytes."""
        self._entered -= 1
        self._finished[status // 100].append((seconds, received, sent))
        if not self._is_due:
            self._write_soon()

    def _write_soon(self) -> None:
        self._is_due = True
        asyncio.get_running_loop().call_soon(self.write)

    def write(self) -> None:
        """Write what has happened since the last time."""
        http = self._http
        http.gauges.increment(self._inprogress, self._entered)
        self._entered = 0
        self._is_due = False
        for status, requests in self._finished.items():
            if requests:
                series = self._series[status]
                seconds, received, sent = zip(*requests, strict=True)
                http.counters.increment(series.requests, len(requests))
                http.histograms.observe_all(series.duration, LATENCY_BOUNDS, seconds)
                for summary, sizes in ((series.received, received), (series.sent, sent)):
                    http.summaries.increment(summary.start, len(sizes))
                    http.summaries.increment(summary.start + 1, sum(sizes))
                requests.clear()


class _Series(NamedTuple):
    """The slots of one route and class of status."""

    requests: int
    duration: slice
    received: slice
    sent: slice


class HttpSlots:
    """Slots of the http_* families of some routes (POST), all at 0 from the start.

    A series that its first failure creates shows that failure to nobody: there was no increase.
    """

    def __init__(self, directory: Path, handlers: Iterable[str]) -> None:
        counters, histograms = Layout("counter"), Layout("histogram")
        summaries, gauges = Layout("summary"), Layout("gauge_livesum")
        self.series: dict[tuple[str, str], _Series] = {}
        self.inprogress: dict[str, int] = {}
        for handler in handlers:
            route = {"handler": handler, "method": "POST"}
            self.inprogress[handler] = gauges.gauge(*_named("http_requests_inprogress"), route)
            for status in STATUSES:
                labels = {**route, "status": status}
                self.series[handler, status] = _Series(
                    counters.counter(*_named("http_requests"), labels),
                    histograms.histogram(
                        *_named("http_request_duration_seconds"), labels, LATENCY_BOUNDS
                    ),
                    summaries.summary(*_named("http_request_size_bytes"), labels),
                    summaries.summary(*_named("http_response_size_bytes"), labels),
                )
        self.counters = counters.create(directory, "http")
        self.histograms = histograms.create(directory, "http")
        self.summaries = summaries.create(directory, "http")
        self.gauges = gauges.create(directory, "http")


def _named(family: str) -> tuple[str, str]:
    return family, _HELP[family]
