"""Locust's statistics as metrics, with stand-ins for locust's objects."""

from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from traffic.drift import Drift
from traffic.exporter import STATES, LocustCollector, cumulative, reason_of

EXPECTED = [("POST", "predict"), ("GET", "health")]


def _entry(requests: int, response_times: dict[int, int], total: float) -> SimpleNamespace:
    return SimpleNamespace(
        method="POST",
        name="predict",
        num_requests=requests,
        response_times=response_times,
        total_response_time=total,
    )


def _error(text: object, occurrences: int) -> SimpleNamespace:
    return SimpleNamespace(method="POST", name="predict", error=text, occurrences=occurrences)


def _registry(
    entries: list[SimpleNamespace], errors: list[SimpleNamespace], drift: Drift | None = None
) -> CollectorRegistry:
    stats = SimpleNamespace(
        entries={(entry.name, entry.method): entry for entry in entries},
        errors=dict(enumerate(errors)),
    )
    runner: Any = SimpleNamespace(stats=stats, state="running", user_count=5, worker_count=2)
    registry = CollectorRegistry()
    facts = {"scenario": "steady", "rows": "held_out"}
    drift = drift or Drift("off", 100.0, clock=lambda: 0.0)
    registry.register(LocustCollector(runner, EXPECTED, facts, drift))
    return registry


def test_every_series_starts_at_zero() -> None:
    """Requests, failures and response times exist before the first request."""
    registry = _registry([], [])

    for method, name in EXPECTED:
        labels = {"method": method, "name": name}
        assert registry.get_sample_value("locust_requests_total", labels) == 0
        assert registry.get_sample_value("locust_response_time_seconds_count", labels) == 0
        for reason in ("unreachable", "unexpected_status", "unexpected_answer", "other"):
            failed = registry.get_sample_value(
                "locust_failures_total", {**labels, "reason": reason}
            )
            assert failed == 0


def test_counts_equal_locusts_statistics() -> None:
    """Requests, response times and failures are those of locust."""
    errors = [
        _error(ValueError("unexpected_status: 503 instead of 200"), 2),
        _error("CatchResponseError('unexpected_status: 500 instead of 200')", 3),
        _error("CatchResponseError('unreachable: no answer')", 4),
    ]
    registry = _registry([_entry(10, {3: 6, 40: 4}, 178.5)], errors)
    labels = {"method": "POST", "name": "predict"}

    def value(metric: str, **more: str) -> float | None:
        return registry.get_sample_value(metric, labels | more)

    assert value("locust_requests_total") == 10
    assert value("locust_failures_total", reason="unexpected_status") == 5
    assert value("locust_failures_total", reason="unreachable") == 4
    assert value("locust_response_time_seconds_bucket", le="0.005") == 6
    assert value("locust_response_time_seconds_bucket", le="0.05") == 10
    assert value("locust_response_time_seconds_count") == 10
    assert value("locust_response_time_seconds_sum") == 0.1785


def test_exactly_one_state_is_1() -> None:
    """It is the state of the runner."""
    registry = _registry([], [])
    states = {
        state: registry.get_sample_value("locust_state", {"state": state}) for state in STATES
    }

    assert {state: float(state == "running") for state in STATES} == states
    assert registry.get_sample_value("locust_users") == 5
    assert registry.get_sample_value("locust_workers") == 2


def test_rows_and_share_follow_the_drift() -> None:
    """A switch changes the label and the share, so dashboards can mark it."""
    now = [0.0]
    drift = Drift("off", 100.0, clock=lambda: now[0])
    registry = _registry([], [], drift)

    def seen() -> tuple[list[str], float | None]:
        (family,) = (each for each in registry.collect() if each.name == "locust_traffic")
        return (
            [sample.labels["rows"] for sample in family.samples],
            registry.get_sample_value("locust_drifted_ratio"),
        )

    assert seen() == (["held_out"], 0.0)
    drift.switch("drifted")
    assert seen() == (["drifted"], 1.0)
    drift.switch("gradual")
    now[0] = 25.0
    assert seen() == (["gradual"], 0.25)
    drift.switch("off")
    assert seen() == (["held_out"], 0.0)


def test_buckets_are_cumulative_and_include_their_bound() -> None:
    """The bucket +Inf has all requests."""
    buckets = dict(cumulative({0: 1, 5: 1, 6: 1, 300: 1, 310: 1, 60_000: 1}))

    assert buckets["0.005"] == 2
    assert buckets["0.01"] == 3
    assert buckets["0.3"] == 4
    assert buckets["0.5"] == 5
    assert buckets["2.5"] == 5
    assert buckets["+Inf"] == 6


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("unexpected_answer: no prediction_id"), "unexpected_answer"),
        ("CatchResponseError('unreachable: no answer')", "unreachable"),
        (ConnectionResetError("reset by peer"), "other"),
        (None, "other"),
    ],
)
def test_reasons_are_a_closed_list(error: object, expected: str) -> None:
    """The reason is read from the complaint, and is otherwise `other`."""
    assert expected == reason_of(error)
