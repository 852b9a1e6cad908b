"""Run every query of every dashboard, and say which fail and which have no answer."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tools.report.client import Prometheus, QueryError
from tools.report.context import Context
from tools.report.dashboards import Json, dashboards, panels
from tools.report.notes import Notes
from tools.report.rendering import Wish
from tools.report.times import parse_range
from tools.report.variables import resolve, substitute


@dataclass(frozen=True)
class Finding:
    """One query, and what is wrong with it; nothing where it is in order."""

    place: str
    problem: str = ""


def check(wish: Wish) -> list[Finding]:
    """Return one finding per query, of every dashboard that belongs to a model that runs."""
    span = parse_range(wish.start, wish.end, time.time())
    prometheus = Prometheus(wish.url, span)
    try:
        return [found for board in dashboards() for found in _check(board, prometheus, wish)]
    finally:
        prometheus.close()


def _check(board: Json, prometheus: Prometheus, wish: Wish) -> Iterator[Finding]:
    variables = resolve(board, prometheus, wish.variables, Notes())
    if not all(each.options or each.optional for each in variables.values()):
        # The accuracy of the other task: checked where a model of that task runs.
        return
    context = Context(prometheus, variables, Notes())
    for panel in panels(board):
        for target in panel.get("targets", ()):
            place = f"{board['uid']}: {panel['title']}: {target['refId']}"
            yield Finding(place, _problem(panel, target, context))
    for each in board["annotations"]["list"]:
        expr = substitute(each["expr"], variables)
        yield Finding(f"{board['uid']}: annotation {each['name']}", _error(prometheus, expr))


def _problem(panel: Json, target: Json, context: Context) -> str:
    try:
        series = context.series(panel, target)
    except QueryError as error:
        return f"rejected: {error}"
    return "" if series or _may_be_empty(panel, target) else "no answer"


def _may_be_empty(panel: Json, target: Json) -> bool:
    """Return whether no answer is an answer: the panel has words for it, or another query."""
    config: Mapping[str, object] = panel["fieldConfig"]["defaults"]
    several = panel["type"] == "table" and len(panel["targets"]) > 1
    return "noValue" in config or (several and target["refId"] != "A")


def _error(prometheus: Prometheus, expr: str) -> str:
    """Return why an annotation's query is rejected; it need not have an answer."""
    try:
        prometheus.instant(expr)
    except QueryError as error:
        return f"rejected: {error}"
    return ""
