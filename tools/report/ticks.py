"""The axis of values: where it begins and ends, and its ticks in the unit of the panel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tools.report import units

_TICKS = 5
_BASES = {"s": (60.0, 3600.0, 86400.0), "bytes": (1024.0, 1024.0**2, 1024.0**3)}


@dataclass(frozen=True)
class Axis:
    """An axis from low to high, with a text at each tick."""

    low: float
    high: float
    values: Sequence[float]
    texts: Sequence[str]
    logarithmic: bool = False


def axis(values: Sequence[float], config: dict[str, object]) -> Axis:
    """Return the axis for values, within the limits of a field's configuration."""
    finite = [value for value in values if math.isfinite(value)] or [0.0]
    custom = config.get("custom") or {}
    assert isinstance(custom, dict)  # noqa: S101 (JSON)
    fixed_low, fixed_high = _number(config.get("min")), _number(config.get("max"))
    low = min([*finite, *_number(custom.get("axisSoftMin")), *fixed_low])
    high = max([*finite, *_number(custom.get("axisSoftMax"))])
    if custom.get("axisCenteredZero"):
        high = max(abs(low), abs(high))
        low = -high
    if low == high:
        low, high = low - abs(low) / 10 - 0.5 * (low == 0), high + abs(high) / 10 + 0.5 * (low == 0)
    room = (high - low) / 20
    low = fixed_low[0] if fixed_low else low - room
    high = fixed_high[0] if fixed_high and fixed_high[0] > low else high + room
    unit = str(config.get("unit", "short"))
    scale = custom.get("scaleDistribution") or {}
    if scale.get("type") == "log" and low > 0:
        return _by_powers_of_ten(low, high, unit)
    return _with_ticks(low, high, unit)


def _by_powers_of_ten(low: float, high: float, unit: str) -> Axis:
    first, last = (round(math.log10(each), 9) for each in (low, high))
    ticks = [10.0**power for power in range(math.ceil(first), math.floor(last) + 1)]
    texts = [units.show(float(f"{tick:.6g}"), unit) for tick in ticks]
    return Axis(low, high, ticks, texts, logarithmic=True)


def _number(value: object) -> list[float]:
    return [float(value)] if isinstance(value, int | float) else []


def _with_ticks(low: float, high: float, unit: str) -> Axis:
    size = _nice((high - low) / _TICKS, unit)
    first = math.ceil(low / size - 1e-9)
    last = math.floor(high / size + 1e-9)
    ticks = [number * size for number in range(first, last + 1)]
    return Axis(low, high, ticks, [_text(tick, size, unit) for tick in ticks])


def _nice(rough: float, unit: str) -> float:
    """Return the next round size above a rough one: 1, 2 or 5 of what the unit counts in."""
    base = max((each for each in _BASES.get(unit, ()) if each <= rough), default=1.0)
    power = 10.0 ** math.floor(math.log10(rough / base))
    factor = next(each for each in (1, 2, 5, 10) if each * power * base >= rough * (1 - 1e-9))
    return factor * power * base


def _text(tick: float, size: float, unit: str) -> str:
    """Return a tick with as many decimals as tell it from its neighbours."""
    scale = 100 if unit == "percentunit" else 1
    if unit in _BASES or (abs(tick) >= 1000 and unit != "locale"):  # noqa: PLR2004 (1 K)
        return units.show(round(tick, 12), unit)
    decimals = max(0, -math.floor(math.log10(size * scale) + 1e-9))
    return units.show(tick, unit, decimals)
