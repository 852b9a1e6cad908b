"""Panels as what the page draws: numbers, texts and colours' names, one function per type."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Any
from urllib.parse import quote

from tools.report import markdown, units
from tools.report.colors import series_color, value_color
from tools.report.context import Context, View
from tools.report.dashboards import Json
from tools.report.fields import Field, configured
from tools.report.mappings import shown
from tools.report.ticks import Axis, axis
from tools.report.transformations import sorted_by, transform

_CALCULATIONS = ("lastNotNull", "max", "min", "mean")
# Grafana's way to Prometheus, for browsers that cannot reach it themselves.
_PROXY = "/api/datasources/proxy/uid/prometheus"
_FIELD = re.compile(r"\$\{__data\.fields\.([^}]+)\}")


def view(panel: Json, context: Context) -> View:
    """Return what is drawn for a panel; a type that is unknown is noted."""
    if not context.notes.check("panels of type", panel["type"], TYPES):
        return {"empty": "cannot be shown here"}
    return TYPES[panel["type"]](panel, context)


def _empty(panel: Json) -> View:
    return {"empty": panel["fieldConfig"]["defaults"].get("noValue", "No data")}


def _axis(found: Axis) -> View:
    return {
        "range": [found.low, found.high],
        "ticks": found.values,
        "texts": found.texts,
        "log": found.logarithmic,
    }


def _last(values: Sequence[Any]) -> Any:  # noqa: ANN401 (a number or None)
    return next((value for value in reversed(values) if value is not None), None)


def _reduce(name: str, values: Sequence[Any]) -> float | None:
    known = [value for value in values if value is not None]
    if not known:
        return None
    if name == "mean":
        return float(sum(known) / len(known))
    return float({"lastNotNull": known[-1], "max": max(known), "min": min(known)}[name])


# ---- One value each --------------------------------------------------------------------------


def _stat(panel: Json, context: Context) -> View:
    options, now = panel["options"], context.prometheus.span.end
    calculation = options["reduceOptions"]["calcs"][0]
    context.notes.check("calculation", calculation, _CALCULATIONS)
    fields = configured(context.lines(panel), panel, context.notes)
    if not fields:
        default = shown(None, panel["fieldConfig"]["defaults"], now)
        return {"stats": [{"name": "", "text": default.text, "color": default.color}]}
    named = options["textMode"] == "value_and_name" or len(fields) > 1
    return {"stats": [_one_stat(each, calculation, now, options, named=named) for each in fields]}


def _one_stat(each: Field, calculation: str, now: float, options: Json, *, named: bool) -> View:
    value = shown(_reduce(calculation, each.values), each.config, now)
    sparkline = options["graphMode"] == "area" and len(each.values) > 1
    return {
        "name": each.name if named else "",
        "text": value.text,
        "color": value.color,
        **({"line": _sparkline(each)} if sparkline else {}),
    }


def _sparkline(each: Field) -> list[float | None]:
    """Return the values as shares of the height: from min to max, or to the highest value."""
    known = [value for value in each.values if value is not None] or [0.0]
    low = each.config.get("min", min(known))
    high = max([each.config.get("max", -math.inf), *known])
    span = high - low or 1.0
    return [None if value is None else round((value - low) / span, 3) for value in each.values]


def _bar_gauge(panel: Json, context: Context) -> View:
    now = context.prometheus.span.end
    fields = configured(context.lines(panel), panel, context.notes)
    bars = [(each, _last(each.values)) for each in fields]
    if not (known := [value for _, value in bars if value is not None]):
        return _empty(panel)
    low = panel["fieldConfig"]["defaults"].get("min", min(known))
    high = panel["fieldConfig"]["defaults"].get("max", max(known)) or 1
    return {
        "bars": [
            {
                "name": each.name,
                "text": shown(value, each.config, now).text,
                "color": value_color(each.config, value),
                "share": _share(value, low, high),
            }
            for each, value in bars
        ]
    }


def _share(value: float | None, low: float, high: float) -> float:
    span = high - low or 1.0
    return round(min(max(((value or 0) - low) / span, 0), 1), 4)


# ---- Over time -------------------------------------------------------------------------------


def _time_series(panel: Json, context: Context) -> View:
    fields = configured(context.lines(panel), panel, context.notes)
    if not any(value is not None for each in fields for value in each.values):
        return _empty(panel)
    defaults = panel["fieldConfig"]["defaults"]
    stacked = defaults.get("custom", {}).get("stacking", {}).get("mode") == "normal"
    right = [each for each in fields if each.config["custom"].get("axisPlacement") == "right"]
    left = [each for each in fields if each not in right]
    legend = panel["options"]["legend"]
    return {
        "grid": _grid(panel, context),
        "lines": _lines(fields, legend["calcs"], right, context),
        "stacked": stacked,
        "axis": _axis(axis(_heights(left, stacked=stacked), (left or fields)[0].config)),
        **({"right": _axis(axis(_heights(right), right[0].config))} if right else {}),
        "thresholds": _thresholds(defaults),
        "legend": legend["placement"],
        "calcs": [{"lastNotNull": "last"}.get(name, name) for name in legend["calcs"]],
    }


def _grid(panel: Json, context: Context) -> View:
    grid, span = context.grid(panel), context.prometheus.span
    return {
        "start": grid[0],
        "step": context.step(panel),
        "count": len(grid),
        "range": [span.start, span.end],
    }


def _heights(fields: Sequence[Field], *, stacked: bool = False) -> list[float]:
    if stacked:
        columns = zip(*(each.values for each in fields), strict=True)
        return [sum(value or 0 for value in column) for column in columns]
    return [value for each in fields for value in each.values if value is not None]


def _lines(
    fields: Sequence[Field], calcs: Sequence[str], right: Sequence[Field], context: Context
) -> list[View]:
    lines = []
    same: dict[str, int] = {}
    for number, each in enumerate(fields):
        rule = str(each.config.get("color"))
        alike = same[rule] = same.get(rule, -1) + 1
        fixed = each.config.get("color", {}).get("mode") == "palette-classic"
        color = series_color(each.config, number if fixed else alike)
        lines.append(_line(each, color, calcs, context, right=each in right))
    return lines


def _line(each: Field, color: str, calcs: Sequence[str], context: Context, *, right: bool) -> View:
    custom, now = each.config["custom"], context.prometheus.span.end
    for name in calcs:
        context.notes.check("calculation", name, _CALCULATIONS)
    hidden = custom.get("hideFrom", {})
    return {
        "name": each.name,
        "y": [_rounded(value) for value in each.values],
        "texts": [
            "" if value is None else shown(value, each.config, now).text for value in each.values
        ],
        "color": color,
        "width": custom.get("lineWidth", 1),
        "fill": custom.get("fillOpacity", 0),
        "dash": custom.get("lineStyle", {}).get("fill") == "dash",
        "below": custom.get("fillBelowTo"),
        "legend": not hidden.get("legend"),
        "right": right,
        "calcs": [shown(_reduce(name, each.values), each.config, now).text for name in calcs],
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def _thresholds(defaults: Json) -> list[View]:
    if defaults.get("custom", {}).get("thresholdsStyle", {}).get("mode", "off") == "off":
        return []
    steps = defaults["thresholds"]["steps"]
    return [
        {"value": step["value"], "color": step["color"]}
        for step in steps
        if step["value"] is not None
    ]


def _state_timeline(panel: Json, context: Context) -> View:
    fields = configured(context.lines(panel), panel, context.notes)
    fields = [each for each in fields if any(value is not None for value in each.values)]
    if not fields:
        return _empty(panel)
    grid, step, now = context.grid(panel), context.step(panel), context.prometheus.span.end
    states = []
    for each in fields:
        for value, run in groupby(zip(grid, each.values, strict=True), key=lambda at: at[1]):
            times = [time for time, _ in run]
            if value is not None:
                state = shown(value, each.config, now)
                span = [times[0], min(times[-1] + step, now)]
                states.append({"name": each.name, "span": span, **asdict(state)})
    return {
        "grid": _grid(panel, context),
        "names": sorted({each.name for each in fields}, reverse=True),
        "states": states,
    }


def _heat_map(panel: Json, context: Context) -> View:
    fields = [each for each in context.lines(panel) if each.labels.get("le") != "+Inf"]
    fields.sort(key=lambda each: float(each.labels["le"]))
    unit, cell = panel["options"]["yAxis"]["unit"], panel["options"]["cellValues"]["unit"]
    for each in (unit, cell):
        context.notes.check("unit", each, [each] if units.is_known(each) else ())
    if not any(value for each in fields for value in each.values):
        return _empty(panel)
    least = panel["options"]["filterValues"]["le"]
    exponent = panel["options"]["color"]["exponent"]
    table = _per_bucket(fields, least)
    return {
        "grid": _grid(panel, context),
        "buckets": [units.show(float(each.labels["le"]), unit) for each in fields],
        "z": [[None if v is None else _rounded(v**exponent) for v in row] for row in table],
        "texts": [["" if v is None else units.show(v, cell) for v in row] for row in table],
    }


def _per_bucket(fields: Sequence[Field], least: float) -> list[list[float | None]]:
    """Return the counts of each bucket alone; `le` counts those below as well."""
    table, below = [], [0.0] * len(fields[0].values)
    for each in fields:
        counts = [value or 0.0 for value in each.values]
        alone = (up - low for up, low in zip(counts, below, strict=True))
        table.append([value if value > least else None for value in alone])
        below = counts
    return table


# ---- Tables ----------------------------------------------------------------------------------


def _columns(panel: Json, context: Context) -> list[Field]:
    """Return the one table of a panel by columns, transformed and configured."""
    frames = transform(context.tables(panel), panel.get("transformations", ()), context.notes)
    frame = frames[0] if frames else []
    for by in panel["options"].get("sortBy", ()):
        frame = sorted_by(frame, by["displayName"], descending=by["desc"])
    return configured(frame, panel, context.notes)


def _table(panel: Json, context: Context) -> View:
    columns = _columns(panel, context)
    if not columns or not columns[0].values:
        return _empty(panel)
    rows = range(len(columns[0].values))
    return {
        "columns": [_head(each) for each in columns],
        "rows": [[_cell(each, row, columns, context) for each in columns] for row in rows],
    }


def _head(each: Field) -> View:
    custom = each.config.get("custom", {})
    return {
        "name": each.name,
        "width": custom.get("width") or custom.get("minWidth", 150),
        "fixed": "width" in custom,
        "align": _side(each) if custom.get("align", "auto") == "auto" else custom["align"],
        "cell": custom.get("cellOptions", {}).get("type", "auto"),
    }


def _side(each: Field) -> str:
    """Return where Grafana puts a column by itself: numbers to the right."""
    return "right" if any(isinstance(value, int | float) for value in each.values) else "left"


def _cell(each: Field, row: int, columns: Sequence[Field], context: Context) -> View:
    value = each.values[row]
    seen = shown(value, each.config, context.prometheus.span.end)
    cell: View = {"text": seen.text, "color": seen.color}
    if value is None:
        return {"text": "", "color": "text"}
    if each.config.get("custom", {}).get("cellOptions", {}).get("type") == "gauge":
        cell["share"] = _share(value, each.config.get("min", 0), each.config.get("max", 1))
    if links := each.config.get("links"):
        others = {other.name: str(other.values[row]) for other in columns}
        url = _FIELD.sub(lambda found: quote(others.get(found[1], ""), safe=""), links[0]["url"])
        url = url.replace("${__value.raw}", quote(str(value), safe=""))
        cell["href"] = _address(url, context.prometheus.url)
    return cell


def _address(url: str, prometheus: str) -> str:
    """Return where a link leads: to a page of Prometheus, or to another part of this report."""
    if url.startswith(_PROXY):
        return prometheus + url.removeprefix(_PROXY)
    board, _, parameters = url.removeprefix("/d/").partition("?")
    chosen = re.findall(r"(?:^|&)var-(\w+)=([^&$]+)", parameters)
    return "#" + "&".join([board, *(f"{name}={choice}" for name, choice in chosen)])


def _bar_chart(panel: Json, context: Context) -> View:
    columns = _columns(panel, context)
    names = [each.name for each in columns]
    x = panel["options"]["xField"]
    if x not in names or len(columns) == 1:
        return _empty(panel)
    bars = [each for each in columns if each.name != x]
    labels = _labels(columns[names.index(x)], context)
    length = panel["options"]["xTickLabelMaxLength"]
    return {
        "labels": labels,
        "short": [text if len(text) <= length else text[: length - 1] + "…" for text in labels],
        "bars": [_bar(each, number, context) for number, each in enumerate(bars)],
        "axis": _axis(axis(_heights(bars), bars[0].config)),
    }


def _labels(each: Field, context: Context) -> list[str]:
    now = context.prometheus.span.end
    return ["" if value is None else shown(value, each.config, now).text for value in each.values]


def _bar(each: Field, number: int, context: Context) -> View:
    now = context.prometheus.span.end
    return {
        "name": each.name,
        "color": series_color(each.config, number),
        "y": [_rounded(value) for value in each.values],
        "texts": [shown(value, each.config, now).text for value in each.values],
    }


def _text(panel: Json, context: Context) -> View:
    context.notes.check("texts of mode", panel["options"]["mode"], ("markdown",))
    return {"html": markdown.to_html(context.text(panel["options"]["content"]))}


TYPES: Mapping[str, Callable[[Json, Context], View]] = {
    "stat": _stat,
    "bargauge": _bar_gauge,
    "timeseries": _time_series,
    "state-timeline": _state_timeline,
    "heatmap": _heat_map,
    "table": _table,
    "barchart": _bar_chart,
    "text": _text,
}
