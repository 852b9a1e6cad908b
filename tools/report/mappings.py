"""Values as texts, by a field's mappings, its unit and its decimals."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tools.report import units
from tools.report.colors import value_color

KINDS = ("value", "range")


@dataclass(frozen=True)
class Shown:
    """What a reader sees of one value."""

    text: str
    color: str


def shown(value: object, config: Mapping[str, Any], now: float) -> Shown:
    """Return the text and the colour of a value."""
    if isinstance(value, float) and value != value:  # noqa: PLR0124 (not a number)
        value = None
    color = value_color(config, value)
    for mapping in config.get("mappings", ()):
        result = _mapped(mapping, value)
        if result is not None:
            return Shown(str(result.get("text", value)), str(result.get("color", color)))
    if value is None:
        return Shown(str(config.get("noValue", "–")), "text" if "noValue" in config else color)
    if isinstance(value, int | float):
        unit, decimals = config.get("unit", "short"), config.get("decimals")
        return Shown(units.show(float(value), unit, decimals, now), color)
    return Shown(str(value), color)


def _mapped(mapping: Mapping[str, Any], value: object) -> Mapping[str, Any] | None:
    options = mapping["options"]
    if mapping["type"] == "value":
        found: Mapping[str, Any] | None = options.get(_key(value))
        return found
    if mapping["type"] == "range" and isinstance(value, int | float):
        low, high = options.get("from"), options.get("to")
        if (low is None or value >= low) and (high is None or value <= high):
            result: Mapping[str, Any] = options["result"]
            return result
    return None


def _key(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)
