"""From the dashboards' JSON and a Prometheus to the report."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tools.report import boards
from tools.report.client import Prometheus
from tools.report.context import View
from tools.report.dashboards import dashboards
from tools.report.page import Look, page
from tools.report.summary import Summary, summarize
from tools.report.times import parse_range


@dataclass(frozen=True)
class Wish:
    """What somebody wants a report of."""

    url: str
    start: str = "now-1h"
    end: str = "now"
    variables: Mapping[str, str] = field(default_factory=dict)
    look: Look = field(default_factory=Look)


@dataclass(frozen=True)
class Report:
    """A report: the page, the words above its panels, and what it could not show."""

    html: str
    summary: Summary
    boards: Sequence[View]

    @property
    def unknown(self) -> list[str]:
        """What is not shown as in Grafana, with the place."""
        return [
            f"{board['title']}{place}: {note}"
            for board in self.boards
            for place, notes in _noted(board)
            for note in notes
        ]


def _noted(board: View) -> list[tuple[str, Sequence[str]]]:
    panels = [panel for section in board.get("sections", ()) for panel in section["panels"]]
    return [("", board["notes"]), *((f" / {panel['title']}", panel["notes"]) for panel in panels)]


def report(wish: Wish) -> Report:
    """Render every dashboard; one without anything to show is left out, with the reason."""
    span = parse_range(wish.start, wish.end, time.time())
    prometheus = Prometheus(wish.url, span)
    try:
        rendered = [_rendered(each, prometheus, wish.variables) for each in dashboards()]
        summary = summarize(rendered, prometheus)
    finally:
        prometheus.close()
    return Report(page(rendered, summary, span, wish.look), summary, rendered)


def _rendered(
    board: Mapping[str, object], prometheus: Prometheus, given: Mapping[str, str]
) -> View:
    done = boards.render(dict(board), prometheus, given)
    if "left_out" not in done and boards.is_empty(done):
        done["left_out"] = "no query of it has an answer"
    return done
