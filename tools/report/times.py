"""Points in time as Grafana writes them, and the steps of a range."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from tools.report.errors import ReportError

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_RELATIVE = re.compile(r"now(?:-(\d+)([smhdw]))?")
_DURATION = re.compile(r"(\d+)([smhdw])")
_STEPS = (15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 43200, 86400)


@dataclass(frozen=True)
class Range:
    """A range of time, in seconds since 1970."""

    start: float
    end: float

    @property
    def seconds(self) -> int:
        """How long the range is."""
        return round(self.end - self.start)

    def step(self, points: int, least: int) -> int:
        """Return the smallest round step of at least `least` seconds that gives so few points."""
        wanted = max(self.seconds / points, least)
        return next((step for step in _STEPS if step >= wanted), _STEPS[-1])


def parse_range(start: str, end: str, now: float) -> Range:
    """Return a range such as now-1h to now; raise ReportError where it is none."""
    both = Range(_parse("--from", start, now), _parse("--to", end, now))
    if both.start >= both.end:
        raise ReportError(f"--from {start} is not before --to {end}")
    return both


def _parse(option: str, text: str, now: float) -> float:
    if found := _RELATIVE.fullmatch(text):
        return now - int(found[1] or 0) * _SECONDS[found[2] or "s"]
    if text.isdecimal():
        # Grafana's addresses hold milliseconds, which have three digits more.
        return int(text) / (1000 if len(text) > 10 else 1)  # noqa: PLR2004
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ReportError(
            f"{option} {text}: must be like now-6h, 2026-01-31T12:00 or seconds since 1970"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def seconds(duration: str) -> int:
    """Return the seconds of a duration such as 1m."""
    found = _DURATION.fullmatch(duration)
    if not found:
        raise ReportError(f"{duration} is not a duration such as 1m")
    return int(found[1]) * _SECONDS[found[2]]
