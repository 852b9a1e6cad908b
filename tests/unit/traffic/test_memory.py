"""The memory limit of continuous traffic."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from traffic.memory import POINTS, SECONDS, forget


def _entry() -> SimpleNamespace:
    counts = dict.fromkeys(range(1_000), 10)
    return SimpleNamespace(
        num_requests=10_000,
        num_reqs_per_sec=defaultdict(int, counts),
        num_fail_per_sec=defaultdict(int, counts),
    )


def test_only_recent_counts_and_chart_points_are_kept() -> None:
    """Old counts per second and old chart points are dropped; totals are not."""
    entry, total = _entry(), _entry()
    stats: Any = SimpleNamespace(
        total=total, entries={"predict": entry}, history=list(range(POINTS + 100))
    )
    forget(stats, now=999.5)

    for each in (entry, total):
        assert set(each.num_reqs_per_sec) == set(range(1_000 - SECONDS, 1_000))
        assert set(each.num_fail_per_sec) == set(range(1_000 - SECONDS, 1_000))
        assert each.num_requests == 10_000
    assert stats.history == list(range(100, POINTS + 100))
