"""Panels for the report, and a Prometheus that only gives known answers."""

from collections.abc import Mapping
from typing import Any

from tools.report.client import Prometheus, Series
from tools.report.times import Range

HOUR = Range(0, 3600)


class Answers(Prometheus):
    """Gives the same answer to a query, however it is asked."""

    def __init__(self, answers: Mapping[str, list[Series]]) -> None:
        super().__init__("http://prometheus", HOUR)
        self._given = answers

    def instant(self, expr: str) -> list[Series]:
        """Return the answer to an instant query."""
        return self._given[expr]

    def range(self, expr: str, step: int) -> list[Series]:
        """Return the answer to a query over time."""
        del step
        return self._given[expr]


def at(value: float, **labels: str) -> Series:
    """Return a series of an instant query."""
    return {"metric": labels, "value": [3600, str(value)]}


def over(values: list[float], **labels: str) -> Series:
    """Return a series over time, a minute between two values."""
    return {"metric": labels, "values": [[60 * n, str(value)] for n, value in enumerate(values)]}


def panel(kind: str, targets: list[dict[str, Any]], **parts: object) -> dict[str, Any]:
    """Return a panel with queries a, b, …."""
    return {
        "type": kind,
        "gridPos": {"w": 12},
        "interval": "1m",
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": "short"}, "overrides": []},
        "options": {},
        **parts,
    }


def table(expr: str, ref: str = "A") -> dict[str, Any]:
    """Return a target in table format."""
    return {"refId": ref, "expr": expr, "instant": True, "format": "table"}
