"""The http_* families, by prometheus-fastapi-instrumentator."""

from collections.abc import Iterable
from pathlib import Path

from fastapi import FastAPI
from prometheus_fastapi_instrumentator import Instrumentator, metrics

from serving.slots import Layout

# 0.3 s is the line that the latency objective draws.
LATENCY_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5)
LATENCY_HELP = "Duration of HTTP requests, in seconds."
REQUESTS_HELP = "HTTP requests."
STATUSES = ("2xx", "4xx", "5xx")


def instrument(app: FastAPI, directory: Path, handlers: Iterable[str]) -> None:
    """Count every request by route template, method and class of status.

    The series of `handlers` (POST) exist at 0 from the start, or the first failure, which creates
    its series, would be no increase.
    """
    instrumentator = Instrumentator(
        should_instrument_requests_inprogress=True, inprogress_labels=True
    )
    instrumentator.add(
        metrics.requests(metric_doc=REQUESTS_HELP),
        metrics.latency(metric_doc=LATENCY_HELP, buckets=LATENCY_BOUNDS),
        metrics.request_size(),
        metrics.response_size(),
    )
    instrumentator.instrument(app)
    _start_at_zero(directory, handlers)


def _start_at_zero(directory: Path, handlers: Iterable[str]) -> None:
    """Write the series of `handlers` as slots beside the library's own; a scrape adds them up."""
    counters, histograms = Layout("counter"), Layout("histogram")
    for handler in handlers:
        for status in STATUSES:
            labels = {"handler": handler, "method": "POST", "status": status}
            counters.counter("http_requests", REQUESTS_HELP, labels)
            histograms.histogram(
                "http_request_duration_seconds", LATENCY_HELP, labels, LATENCY_BOUNDS
            )
    counters.create(directory, "http")
    histograms.create(directory, "http")
