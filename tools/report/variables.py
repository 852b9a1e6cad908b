"""The variables of a dashboard: their values, and the texts that they are put into."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote

from tools.report.client import Prometheus
from tools.report.dashboards import Json, scrape_interval
from tools.report.errors import ReportError
from tools.report.notes import Notes
from tools.report.times import seconds

_USE = re.compile(r"\$\{(\w+)(?::(\w+))?\}|\$(\w+)")
_LABEL_VALUES = re.compile(r"label_values\((.*),\s*(\w+)\)", re.DOTALL)
_ALL = "$__all"
_KINDS = ("query", "custom")
_FORMATS = ("queryparam", "raw")


@dataclass(frozen=True)
class Variable:
    """One variable, with the values there are and those that are chosen."""

    name: str
    label: str
    options: Sequence[str]
    chosen: Sequence[str]
    everything: str | None = None
    """What stands for all values, where all are chosen."""
    hidden: bool = False
    optional: bool = False
    """Whether a dashboard has something to show where there is no value, as of what repeats."""

    @property
    def value(self) -> str:
        """The value in a query."""
        if self.everything is not None:
            return self.everything
        if len(self.chosen) > 1:
            return "(" + "|".join(map(re.escape, self.chosen)) + ")"
        return next(iter(self.chosen), "")

    @property
    def text(self) -> str:
        """The value for a reader."""
        return "all" if self.everything is not None else " + ".join(self.chosen)

    def only(self, value: str) -> "Variable":
        """Return the variable with a single value chosen."""
        return replace(self, chosen=(value,), everything=None)


Variables = Mapping[str, Variable]


def resolve(
    board: Json, prometheus: Prometheus, given: Mapping[str, str], notes: Notes
) -> dict[str, Variable]:
    """Return the variables of a dashboard in order, as each may depend on those before it."""
    found: dict[str, Variable] = {}
    for each in board["templating"]["list"]:
        notes.check("variables of type", each["type"], _KINDS)
        options = _options(each, prometheus, found)
        found[each["name"]] = _choose(each, options, given.get(each["name"]))
    return found


def _options(definition: Json, prometheus: Prometheus, known: Variables) -> list[str]:
    if definition["type"] == "custom":
        return [part.strip() for part in definition["query"].split(",")]
    if definition["type"] != "query":
        return []
    query = _LABEL_VALUES.fullmatch(definition["query"]["query"])
    if not query:
        return []
    values = prometheus.label_values(substitute(query[1], known), query[2])
    pattern = re.compile(definition.get("regex", "").strip("/"))
    return sorted(value for value in values if pattern.search(value))


def _choose(definition: Json, options: Sequence[str], given: str | None) -> Variable:
    found = Variable(
        name=definition["name"],
        label=definition.get("label") or definition["name"],
        options=options,
        chosen=options[:1],
        hidden=definition.get("hide", 0) > 0,
        optional=definition.get("includeAll", False),
    )
    if given is not None:
        chosen = given.split(",")
        if missing := [value for value in chosen if value not in options]:
            known = ", ".join(options) or "none"
            raise ReportError(f"--var {found.name}={missing[0]}: no such value; there are: {known}")
        return replace(found, chosen=chosen)
    current = definition.get("current", {}).get("value")
    if _ALL in (current if isinstance(current, list) else [current]):
        return replace(found, chosen=options, everything=definition.get("allValue"))
    return replace(found, chosen=[current]) if current in options else found


def substitute(text: str, variables: Variables, builtin: Mapping[str, str] | None = None) -> str:
    """Return a text with the variables put in; those that nobody knows stay."""

    def value(found: re.Match[str]) -> str:
        name, form = found[1] or found[3], found[2]
        if builtin and name in builtin:
            return builtin[name]
        if name not in variables:
            return found[0]
        if form == "queryparam":
            return query_parameter(variables[name])
        return variables[name].value

    return _USE.sub(value, text)


def query_parameter(variable: Variable) -> str:
    """Return a variable as the part of an address that Grafana reads."""
    chosen = [_ALL] if variable.everything is not None else variable.chosen
    return "&".join(f"var-{variable.name}={quote(value)}" for value in chosen)


def windows(step: int, span_seconds: int) -> dict[str, str]:
    """Return Grafana's own variables for a query with this step."""
    scrape = seconds(scrape_interval())
    return {
        "__interval": f"{step}s",
        "__rate_interval": f"{max(step + scrape, 4 * scrape)}s",
        "__range": f"{span_seconds}s",
        "__range_s": str(span_seconds),
    }


def used(text: str) -> set[str]:
    """Return the names of the variables in a text."""
    return {found[1] or found[3] for found in _USE.finditer(text)}
