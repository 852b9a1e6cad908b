"""The duration of a scrape, compared with prometheus_client's, and its effect on predictions."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bench import ours
from bench.bench import Bench
from bench.machine import pinned, require_wrk
from bench.report import Section, at_most, number_text
from bench.servers import Row, Server
from bench.steady import quantile, steady
from bench.synthetic import synthetic
from bench.wrk import Request, running_wrk, wrk

_FEATURES = 200
_SCRAPES = 20
_RATE = 1000.0
# Much more frequent than Prometheus' scrapes, so that they affect the p99.
_PAUSE_MS = 100


@dataclass(frozen=True)
class _Scrape:
    """Milliseconds of a scrape, of prometheus_client's for the same files, and its lines."""

    own: float
    library: float
    lines: int


def measure(bench: Bench) -> Section:
    """Measure the duration of scrapes and the delay of predictions."""
    require_wrk()
    bundle = bench.directory / f"{_FEATURES} features"
    row = synthetic(_FEATURES, bundle)
    small = _scrape(bench, ours.monitored(bench, workers=2), bench.rows[0])
    large = _scrape(bench, ours.of_bundle(bench, bundle, workers=2), row)
    delay = _delay(bench) * 1e3
    return Section(
        "A scrape of two workers",
        [
            ["", "lines", "ms", "prometheus_client, ms"],
            ["the example", f"{small.lines:,}", number_text(small.own), number_text(small.library)],
            [
                f"{_FEATURES} features",
                f"{large.lines:,}",
                number_text(large.own),
                number_text(large.library),
            ],
        ],
        [
            at_most("scrape", "a scrape of the example", small.own, 5, " ms"),
            at_most("scrape", f"a scrape of {_FEATURES} features", large.own, 100, " ms"),
            at_most(
                "scrape", "increase of the p99 of predictions by 10 scrapes/s", delay, 1, " ms"
            ),
        ],
    )


def _scrape(bench: Bench, server: Server, row: Row) -> _Scrape:
    with bench.running(server, row=row), pinned({bench.cores.loader}):
        wrk(server.request([row]), 1)
        pages = [_timed(ours.metrics_url(server)) for _ in range(_SCRAPES)]
        library = [_library(ours.metrics_directory(server)) for _ in range(bench.rounds)]
    milliseconds = median(seconds for seconds, _ in pages) * 1e3
    return _Scrape(milliseconds, median(library) * 1e3, pages[-1][1])


def _timed(url: str) -> tuple[float, int]:
    """Return the seconds and the lines of one scrape."""
    start = time.perf_counter()
    with urlopen(url, timeout=10) as answer:  # noqa: S310 of 127.0.0.1
        page = answer.read()
    return time.perf_counter() - start, page.count(b"\n")


def _library(directory: Path) -> float:
    """Return the seconds of a scrape by prometheus_client for the same files."""
    start = time.perf_counter()
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    generate_latest(registry)
    return time.perf_counter() - start


def _delay(bench: Bench) -> float:
    """Return the increase in seconds of the p99 of predictions by scrapes.

    Master and worker share one core, which is the worst case.
    """
    server = ours.monitored(bench)
    without, scraped = [], []
    with bench.running(server), pinned({bench.cores.loader}):
        page = Request(ours.metrics_url(server), method="GET")
        for _ in range(bench.rounds):
            without.append(steady(bench.request(server), _RATE, bench.seconds))
            with running_wrk(page, 2 * bench.seconds, connections=1, pause_ms=_PAUSE_MS):
                scraped.append(steady(bench.request(server), _RATE, bench.seconds))
    return quantile(scraped, 0.99) - quantile(without, 0.99)
