"""Fields: the columns or series of a panel, each with its configuration."""

import copy
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.report import colors, mappings, units
from tools.report.dashboards import Json
from tools.report.notes import Notes

_MATCHERS = ("byName", "byRegexp")
_PROPERTIES = (
    *("unit", "decimals", "min", "max", "noValue", "color", "mappings", "thresholds", "links"),
    *(
        "custom.align",
        "custom.width",
        "custom.cellOptions",
        "custom.axisPlacement",
        "custom.hideFrom",
    ),
    *("custom.lineWidth", "custom.lineStyle", "custom.fillBelowTo", "custom.fillOpacity"),
)
_CELLS = ("auto", "color-text", "color-background", "gauge")


@dataclass(frozen=True)
class Field:
    """One column of a table, or one series over time."""

    name: str
    values: Sequence[Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    config: Json = field(default_factory=dict)


def configured(fields: Iterable[Field], panel: Json, notes: Notes) -> list[Field]:
    """Return the fields with the configuration that the panel has for each."""
    found = [Field(each.name, each.values, each.labels, _config(each, panel)) for each in fields]
    for override in panel["fieldConfig"]["overrides"]:
        notes.check("overrides", override["matcher"]["id"], _MATCHERS)
        for each in override["properties"]:
            notes.check("property", each["id"], _PROPERTIES)
    for each in found:
        _check(each.config, notes)
    return found


def _config(each: Field, panel: Json) -> Json:
    config: Json = copy.deepcopy(panel["fieldConfig"]["defaults"])
    for override in panel["fieldConfig"]["overrides"]:
        if _matches(override["matcher"], each.name):
            for change in override["properties"]:
                _set(config, change["id"], change["value"])
    return config


def _matches(matcher: Mapping[str, str], name: str) -> bool:
    if matcher["id"] == "byName":
        return matcher["options"] == name
    pattern = matcher["options"].strip("/")
    return matcher["id"] == "byRegexp" and re.search(pattern, name) is not None


def _set(config: Json, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        config = config.setdefault(parent, {})
    config[last] = value


def _check(config: Json, notes: Notes) -> None:
    unit = config.get("unit", "short")
    notes.check("unit", unit, [unit] if units.is_known(unit) else ())
    notes.check("colours", config.get("color", {}).get("mode", "fixed"), colors.MODES)
    cell = config.get("custom", {}).get("cellOptions", {}).get("type", "auto")
    notes.check("cells of type", cell, _CELLS)
    for mapping in config.get("mappings", ()):
        notes.check("mappings of type", mapping["type"], mappings.KINDS)
