"""The http_* families of the fast path."""

import asyncio
from pathlib import Path

import pytest

from serving.metrics.http import LATENCY_BOUNDS, HttpSlots, RouteMetrics
from tests.support.bundles import read_metrics
from tests.support.model import by_label, total

ROUTE = {"handler": "/predict", "method": "POST"}


@pytest.mark.parametrize("seconds", [[0.001], [0.005, 0.0049, 0.0], [0.004, 0.02, 0.3, 2.5, 9.0]])
def test_requests_that_are_written_together_are_counted_separately(
    tmp_path: Path, seconds: list[float]
) -> None:
    """Each request is counted, whether or not they share a bucket of the duration."""

    async def requests() -> None:
        route = RouteMetrics(HttpSlots(tmp_path, ["/predict"]), "/predict")
        for each in seconds:
            route.start()
            route.finish(200, each, received=10, sent=3)
        route.write()

    asyncio.run(requests())
    samples = read_metrics(tmp_path)
    buckets = by_label(samples, "http_request_duration_seconds_bucket", "le", **ROUTE, status="2xx")

    for bound in LATENCY_BOUNDS:
        assert buckets[str(bound)] == sum(each <= bound for each in seconds)
    for name, expected in {
        "http_request_duration_seconds_sum": sum(seconds),
        "http_requests_total": len(seconds),
        "http_request_size_bytes_sum": 10 * len(seconds),
        "http_response_size_bytes_sum": 3 * len(seconds),
    }.items():
        assert total(samples, name, **ROUTE, status="2xx") == pytest.approx(expected)
    assert total(samples, "http_requests_inprogress", **ROUTE) == 0
