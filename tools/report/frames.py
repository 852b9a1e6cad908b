"""The answers of Prometheus as Grafana's data source arranges them."""

import math
import re
from collections.abc import Sequence
from typing import Any

from tools.report.client import Series
from tools.report.dashboards import Json
from tools.report.fields import Field

_LABEL = re.compile(r"\{\{\s*(\w+)\s*\}\}")
Frame = list[Field]


def legend(target: Json, labels: dict[str, str]) -> str:
    """Return the name of a series: its legend, else its labels, else the query's letter."""
    if "legendFormat" in target:
        return _LABEL.sub(lambda found: labels.get(found[1], ""), target["legendFormat"])
    shown = ", ".join(f'{name}="{value}"' for name, value in labels.items() if name != "__name__")
    return f"{{{shown}}}" if shown else str(target["refId"])


def over_time(target: Json, series: Sequence[Series], grid: Sequence[float]) -> Frame:
    """Return one field per series, with a value or None at each point of the grid."""
    return [
        Field(legend(target, each["metric"]), _on(grid, each["values"]), each["metric"])
        for each in series
    ]


def _on(grid: Sequence[float], values: Sequence[Sequence[Any]]) -> list[float | None]:
    known = {float(time): _number(value) for time, value in values}
    return [known.get(time) for time in grid]


def now(target: Json, series: Sequence[Series]) -> Frame:
    """Return one field per series of an instant query, with its one value."""
    return [
        Field(legend(target, each["metric"]), [_number(each["value"][1])], each["metric"])
        for each in series
    ]


def as_table(target: Json, series: Sequence[Series], several: bool) -> Frame:  # noqa: FBT001
    """Return a table with a column per label and one for the value, named as by Grafana."""
    names = sorted({name for each in series for name in each["metric"] if name != "__name__"})
    value = f"Value #{target['refId']}" if several else "Value"
    return [
        Field("Time", [float(each["value"][0]) for each in series]),
        *(Field(name, [each["metric"].get(name) for each in series]) for name in names),
        Field(value, [_number(each["value"][1]) for each in series]),
    ]


def _number(text: str) -> float | None:
    value = float(text)
    return None if math.isnan(value) else value
