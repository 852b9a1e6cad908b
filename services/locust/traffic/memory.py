"""Bounds the memory of continuous traffic, because locust is designed for tests that end.

Locust stores a count per second and name and a chart point every 5 s: about 40 MB per day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from locust.stats import RequestStats

# Locust computes current rates from the last 12 s.
SECONDS = 60
# One hour of the charts.
POINTS = 720


def forget(stats: RequestStats, now: float) -> None:
    """Drop old chart points and counts per second; totals and percentiles do not change."""
    for entry in (stats.total, *stats.entries.values()):
        for counts in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
            for second in [second for second in counts if second < now - SECONDS]:
                del counts[second]
    del stats.history[:-POINTS]
