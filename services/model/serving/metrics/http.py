"""The http_* families: of FastAPI's routes by prometheus-fastapi-instrumentator, else by slots.

The fast path does not pass through the library's middleware. It writes the same families into
slots; a scrape adds the two.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator, metrics

from serving.metrics.slots import Layout

# 0.3 s is the threshold of the latency objective.
LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5)
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
    """The families of one route (POST), written by the route itself. Not thread-safe.

    The events of one iteration of the event loop are written together in the next.
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
        """Write the events since the last call."""
        http = self._http
        http.gauges.cells[self._inprogress] += self._entered
        self._entered = 0
        self._is_due = False
        for status, requests in self._finished.items():
            if requests:
                series = self._series[status]
                seconds, received, sent = zip(*requests, strict=True)
                http.counters.cells[series.requests] += len(requests)
                _observe(http.histograms.cells, series.duration, seconds)
                for (count, total), sizes in ((series.received, received), (series.sent, sent)):
                    http.summaries.cells[count] += len(sizes)
                    http.summaries.cells[total] += sum(sizes)
                requests.clear()


def _observe(cells: "memoryview[float]", places: Sequence[int], values: Sequence[float]) -> None:
    """Add values, at least one, to a histogram of LATENCY_BOUNDS."""
    *buckets, total = places
    first, last = (bisect_left(LATENCY_BOUNDS, each) for each in (min(values), max(values)))
    if first == last:
        cells[buckets[first]] += len(values)
    else:
        for value in values:
            cells[buckets[bisect_left(LATENCY_BOUNDS, value)]] += 1
    cells[total] += sum(values)


class _Series(NamedTuple):
    """The places of one route and status class; of the buckets and the sum, of count and sum."""

    requests: int
    duration: Sequence[int]
    received: Sequence[int]
    sent: Sequence[int]


class HttpSlots:
    """Slots of the http_* families of some routes (POST), all at 0 from the start.

    Prometheus sees no increase in a series that starts with its first failure.
    """

    def __init__(self, directory: Path, handlers: Iterable[str]) -> None:
        counters, histograms = Layout("counter"), Layout("histogram")
        summaries, gauges = Layout("summary"), Layout("gauge_livesum")
        slots: dict[tuple[str, str], tuple[int, slice, slice, slice]] = {}
        inprogress: dict[str, int] = {}
        for handler in handlers:
            route = {"handler": handler, "method": "POST"}
            inprogress[handler] = gauges.gauge(*_named("http_requests_inprogress"), route)
            for status in STATUSES:
                labels = {**route, "status": status}
                slots[handler, status] = (
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
        self.inprogress = {each: self.gauges.places[slot] for each, slot in inprogress.items()}
        self.series = {
            key: _Series(
                self.counters.places[requests],
                self.histograms.places[duration],
                self.summaries.places[received],
                self.summaries.places[sent],
            )
            for key, (requests, duration, received, sent) in slots.items()
        }


def _named(family: str) -> tuple[str, str]:
    return family, _HELP[family]
