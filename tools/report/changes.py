"""What a report lists as changed, and how it asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass

from tools.report.client import Prometheus, Series

LABELS = ("job", "model", "version")


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was; the higher the weight, the more it matters."""

    weight: float
    text: str
    color: str
    href: str


def by_labels(prometheus: Prometheus, expr: str, *labels: str) -> dict[tuple[str, ...], float]:
    """Return the values of a query at the end of the range, by some of their labels."""
    return {_key(each, labels): float(each["value"][1]) for each in prometheus.instant(expr)}


def _key(series: Series, labels: Sequence[str]) -> tuple[str, ...]:
    return tuple(series["metric"].get(name, "") for name in labels)
