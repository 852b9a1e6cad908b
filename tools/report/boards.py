"""A dashboard as the page shows it: its variables, its panels, and its annotations."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.report import frames
from tools.report.client import Prometheus, QueryError
from tools.report.context import Context, View
from tools.report.dashboards import Json, panels
from tools.report.notes import Notes
from tools.report.times import seconds
from tools.report.variables import resolve, substitute, used
from tools.report.views import view

_MOST_CHOICES = 60


def render(board: Json, prometheus: Prometheus, given: Mapping[str, str]) -> View:
    """Return a dashboard; `left_out` says why where there is nothing to show of it."""
    notes = Notes()
    variables = resolve(board, prometheus, given, notes)
    context = Context(prometheus, variables, notes)
    head: View = {
        "uid": board["uid"],
        "title": board["title"].partition(" / ")[2] or board["title"],
        "description": board["description"],
        "variables": [
            {"label": each.label, "text": each.text}
            for each in variables.values()
            if not each.hidden
        ],
        "notes": notes,
    }
    if not all(each.options or each.optional for each in variables.values()):
        return {**head, "left_out": "no model that it is about has run in this time"}
    selectable = _selectable(board)
    sections = list(_sections(board["panels"], context, selectable))
    return {
        **head,
        "sections": sections,
        "annotations": list(annotations(board, context)),
        "choices": {
            name: {"options": variables[name].options, "chosen": variables[name].value}
            for name in sorted(selectable)
        },
    }


def _selectable(board: Json) -> set[str]:
    """Return the variables that a reader of the page can choose a value of.

    Their panels are drawn once for every value, so they must be few and about one moment.
    """
    single = {
        each["name"]
        for each in board["templating"]["list"]
        if not each.get("multi") and not each.get("hide")
    }
    elsewhere = json.dumps([board["templating"], [p.get("repeat") for p in board["panels"]]])
    for panel in panels(board):
        if not all(target.get("instant") for target in panel.get("targets", ())):
            elsewhere += json.dumps(panel)
    return single - used(elsewhere)


def _needs(panel: Json) -> set[str]:
    return used(panel["title"] + " ".join(each["expr"] for each in panel.get("targets", ())))


def _sections(items: Sequence[Json], context: Context, selectable: set[str]) -> Iterator[View]:
    """Yield the rows of a dashboard with their panels; a repeated one for every value."""
    for row, found in _by_row(items):
        for each in _repeated(row, context):
            title = each.text(row["title"]) if row else ""
            yield {
                "title": title,
                "panels": [_panel(panel, each, selectable) for panel in found],
            }


def _by_row(items: Sequence[Json]) -> list[tuple[Json | None, list[Json]]]:
    groups: list[tuple[Json | None, list[Json]]] = [(None, [])]
    for item in items:
        if item["type"] == "row":
            groups.append((item, list(item.get("panels", ()))))
        else:
            groups[-1][1].append(item)
    return [(row, found) for row, found in groups if found]


def _repeated(row: Json | None, context: Context) -> list[Context]:
    if not row or "repeat" not in row:
        return [context]
    name = row["repeat"]
    return [context.having(name, value) for value in context.variables[name].chosen]


def _panel(panel: Json, context: Context, selectable: set[str]) -> View:
    notes = Notes()
    own = Context(context.prometheus, context.variables, notes)
    head: View = {
        "id": panel["id"],
        "type": panel["type"],
        "title": own.text(panel["title"]),
        "description": panel["description"],
        "box": panel["gridPos"],
        "notes": notes,
    }
    if chosen := sorted(_needs(panel) & selectable):
        return {**head, "title": panel["title"], **_for_each_choice(panel, own, chosen[0])}
    return {**head, "view": _view(panel, own)}


def _for_each_choice(panel: Json, context: Context, name: str) -> View:
    variable = context.variables[name]
    if len(variable.options) > _MOST_CHOICES:
        count = len(variable.options)
        context.notes.append(f"only {_MOST_CHOICES} of {count} values; --var {name}=… adds another")
    options = [*dict.fromkeys([*variable.chosen, *variable.options])][:_MOST_CHOICES]
    views = {value: _view(panel, context.having(name, value)) for value in options}
    return {"choice": name, "views": views}


def _view(panel: Json, context: Context) -> View:
    try:
        return view(panel, context)
    except QueryError as error:
        context.notes.append(f"query rejected: {error}")
        return {"empty": f"Prometheus rejects the query: {error}"}


def annotations(board: Json, context: Context) -> Iterator[View]:
    """Yield the moments in which the query of an annotation begins to have an answer."""
    for each in board["annotations"]["list"]:
        step = max(seconds(each["step"].replace("60s", "1m")), context.step({"gridPos": {"w": 24}}))
        expr = substitute(each["expr"], context.variables)
        for series in context.prometheus.range(expr, step):
            texts = {
                key: frames.legend({"legendFormat": each[f"{key}Format"]}, series["metric"])
                for key in ("title", "text")
            }
            for moment in _beginnings(series["values"], step):
                yield {"at": moment, "color": each["iconColor"], **texts}


def _beginnings(values: Sequence[Sequence[Any]], step: int) -> list[float]:
    times = [float(time) for time, _ in values]
    return [
        time for last, time in zip([-step * 9.0, *times], times, strict=False) if time - last > step
    ]


def is_empty(board: View) -> bool:
    """Return whether no panel but the texts has anything to show."""
    views = [
        view
        for section in board.get("sections", ())
        for panel in section["panels"]
        if panel["type"] != "text"
        for view in panel.get("views", {"": panel.get("view")}).values()
    ]
    return all("empty" in each for each in views)


def plain(text: str) -> str:
    """Return a title as a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
