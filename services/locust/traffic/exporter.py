"""Locust's statistics as Prometheus metrics, exported by the master or the only process.

The statistics are read at each scrape. If locust resets them ("Reset" and "New test" in its UI),
Prometheus sees a counter reset. In distributed mode the workers report every 3 s, so the figures
are up to 3 s old.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from traffic.answers import UNEXPECTED_ANSWER, UNEXPECTED_STATUS, UNREACHABLE
from traffic.drift import OFF

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from locust.runners import LocalRunner, MasterRunner
    from locust.stats import StatsEntry
    from prometheus_client import Metric

    from traffic.drift import Drift

# The buckets of the model service, in seconds, so that both ends of a connection can be compared.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 0.5, 1.0, 2.5)
OTHER = "other"
REASONS = (UNREACHABLE, UNEXPECTED_STATUS, UNEXPECTED_ANSWER, OTHER)
STATES = ("ready", "spawning", "running", "cleanup", "stopping", "stopped")

_REASON = re.compile("|".join(rf"{reason}(?=: )" for reason in REASONS[:-1]))

Request = tuple[str, str]
"""(method, name)"""


class LocustCollector(Collector):
    """Turns the runner's state and statistics into metric families."""

    def __init__(
        self,
        runner: LocalRunner | MasterRunner,
        requests: Iterable[Request],
        facts: Mapping[str, str],
        drift: Drift,
    ) -> None:
        self._runner = runner
        self._requests = list(requests)
        self._facts = facts
        self._drift = drift

    def collect(self) -> Iterator[Metric]:
        """Yield every family; before the first request all series exist at 0."""
        yield InfoMetricFamily(
            "locust_traffic", "The settings of the traffic.", self._current_facts()
        )
        yield from self._gauges()
        yield self._request_counter()
        yield self._failure_counter()
        yield self._response_times()

    def _current_facts(self) -> dict[str, str]:
        """Return the facts, with the rows that a switch selected."""
        switched = {} if self._drift.mode == OFF else {"rows": self._drift.mode}
        return {**self._facts, **switched}

    def _gauges(self) -> Iterator[Metric]:
        runner = self._runner
        yield GaugeMetricFamily("locust_users", "Users simulated now.", runner.user_count)
        yield GaugeMetricFamily(
            "locust_workers",
            "Processes that simulate users: connected workers, or this process.",
            runner.worker_count,
        )
        yield GaugeMetricFamily(
            "locust_drifted_ratio",
            "Current share of rows from the drifted population, 0 to 1.",
            self._drift.share(),
        )
        states = GaugeMetricFamily(
            "locust_state", "1 for the state of the test, 0 for the others.", labels=["state"]
        )
        for state in STATES:
            states.add_metric([state], float(state == runner.state))
        yield states

    def _entries(self) -> dict[Request, StatsEntry | None]:
        entries: dict[Request, StatsEntry | None] = dict.fromkeys(self._requests)
        # Locust's keys are (name, method).
        entries.update({(e.method, e.name): e for e in self._runner.stats.entries.values()})
        return entries

    def _request_counter(self) -> Metric:
        family = CounterMetricFamily(
            "locust_requests",
            "Requests that were answered or failed.",
            labels=["method", "name"],
        )
        for request, entry in self._entries().items():
            family.add_metric(request, entry.num_requests if entry else 0)
        return family

    def _failure_counter(self) -> Metric:
        counts = {(*request, reason): 0 for request in self._entries() for reason in REASONS}
        for error in self._runner.stats.errors.values():
            counts[error.method, error.name, reason_of(error.error)] += error.occurrences
        family = CounterMetricFamily(
            "locust_failures",
            "Requests without the expected answer, by reason.",
            labels=["method", "name", "reason"],
        )
        for labels, count in counts.items():
            family.add_metric(labels, count)
        return family

    def _response_times(self) -> Metric:
        family = HistogramMetricFamily(
            "locust_response_time_seconds",
            "Time from the request to the end of its answer. Locust rounds it to 1 ms below 100 ms,"
            " to 10 ms below 1 s and to 100 ms below 10 s. The sum is not rounded.",
            labels=["method", "name"],
        )
        for request, entry in self._entries().items():
            times = entry.response_times if entry else {}
            total = entry.total_response_time / 1000 if entry else 0.0
            family.add_metric(request, cumulative(times), total)
        return family


def cumulative(response_times: Mapping[int, int]) -> list[tuple[str, float]]:
    """Return (upper bound in seconds, requests up to it) from requests per millisecond value."""
    bounds = [*BUCKETS, float("inf")]
    return [
        (
            "+Inf" if bound == float("inf") else str(bound),
            sum(count for time, count in response_times.items() if time <= bound * 1000),
        )
        for bound in bounds
    ]


def reason_of(error: object) -> str:
    """Return the reason of a failure, given as an exception or as a worker's text of one."""
    found = _REASON.search(str(error))
    return found.group() if found else OTHER


def serve(collector: Collector, host: str, port: int) -> None:
    """Answer scrapes on a separate port. Raises OSError if the port cannot be bound."""
    registry = CollectorRegistry()
    registry.register(collector)
    start_http_server(port, addr=host, registry=registry)
