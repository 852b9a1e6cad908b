"""Keeps continuous traffic from filling the memory, as locust was made for tests that end.

It keeps a count per second and name and a chart point every 5 s for ever: about 40 MB a day.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from locust.stats import RequestStats

# Locust's current rates look back 12 s.
SECONDS = 60
# An hour of its charts.
POINTS = 720


def forget(stats: RequestStats, now: float) -> None:
    """Drop what only old charts and rates were made of; totals and percentiles are untouched."""
    for entry in (stats.total, *stats.entries.values()):
        for counts in (entry.num_reqs_per_sec, entry.num_fail_per_sec):
            for second in [second for second in counts if second < now - SECONDS]:
                del counts[second]
    del stats.history[:-POINTS]
