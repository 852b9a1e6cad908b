"""Where a panel is rendered: against which Prometheus, with which variables."""

from dataclasses import dataclass, replace
from typing import Any

from tools.report import frames, times
from tools.report.client import Prometheus, Series
from tools.report.dashboards import Json, scrape_interval
from tools.report.fields import Field
from tools.report.notes import Notes
from tools.report.variables import Variables, substitute, windows

# Points across the whole width of a page; a line has no more than pixels to show them.
_POINTS = 480
_COLUMNS = 24


@dataclass(frozen=True)
class Context:
    """What the panels of one dashboard share."""

    prometheus: Prometheus
    variables: Variables
    notes: Notes

    def having(self, name: str, value: str) -> "Context":
        """Return the same with one variable set to a single value."""
        variables = {**self.variables, name: self.variables[name].only(value)}
        return replace(self, variables=variables)

    def text(self, template: str) -> str:
        """Return a text with the variables put in, for a reader."""
        named = {name: each.text for name, each in self.variables.items()}
        return substitute(template, {}, named)

    def step(self, panel: Json) -> int:
        """Return the seconds between two points of a panel."""
        least = max(times.seconds(panel.get("interval", "1s")), times.seconds(scrape_interval()))
        points = max(100, _POINTS * panel["gridPos"]["w"] // _COLUMNS)
        return self.prometheus.span.step(points, least)

    def query(self, panel: Json, target: Json) -> str:
        """Return the PromQL of a target."""
        builtin = windows(self.step(panel), self.prometheus.span.seconds)
        return substitute(target["expr"], self.variables, builtin)

    def series(self, panel: Json, target: Json) -> list[Series]:
        """Ask for one target, as an instant query or over time."""
        expr = self.query(panel, target)
        if target.get("instant"):
            return self.prometheus.instant(expr)
        return self.prometheus.range(expr, self.step(panel))

    def grid(self, panel: Json) -> list[float]:
        """Return the points in time of a panel's queries over time."""
        step = self.step(panel)
        first, last = (int(end // step) for end in self._span())
        return [float(number * step) for number in range(first, last + 1)]

    def _span(self) -> tuple[float, float]:
        return self.prometheus.span.start, self.prometheus.span.end

    def lines(self, panel: Json) -> list[Field]:
        """Return the fields of a panel whose queries are over time, or each about now."""
        found: list[Field] = []
        for target in panel["targets"]:
            series = self.series(panel, target)
            if target.get("instant"):
                found += frames.now(target, series)
            else:
                found += frames.over_time(target, series, self.grid(panel))
        return found

    def tables(self, panel: Json) -> list[frames.Frame]:
        """Return a table per query that has an answer."""
        several = len(panel["targets"]) > 1
        answers = [(target, self.series(panel, target)) for target in panel["targets"]]
        return [frames.as_table(target, series, several) for target, series in answers if series]


View = dict[str, Any]
"""What the page draws: plain values only, as it becomes JSON."""
