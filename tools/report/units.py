"""Numbers as Grafana shows them, by unit."""

import math
from collections.abc import Callable, Sequence

_RATES = {"reqps": " req/s", "eps": " events/s", "cps": " /s", "ops": " ops/s"}
_TIMES = ((1e-6, 1e-9, "ns"), (1e-3, 1e-6, "µs"), (1, 1e-3, "ms"), (60, 1, "s"))
_LONG_TIMES = ((3600, 60, "min"), (86400, 3600, "h"), (math.inf, 86400, "d"))
_AGES = ((90, 1, "second"), (5400, 60, "minute"), (172800, 3600, "hour"))
_KNOWN = {
    "none",
    "short",
    "locale",
    "percentunit",
    "percent",
    "s",
    "ms",
    "bytes",
    "dateTimeFromNow",
}
_THOUSANDS = ("", " K", " Mil", " Bil", " Tri")
_BYTES = (" B", " KiB", " MiB", " GiB", " TiB")
_SIGNIFICANT = 3


def is_known(unit: str) -> bool:
    """Return whether numbers of a unit are shown as Grafana shows them."""
    return unit in _KNOWN or unit in _RATES or unit.startswith(("suffix:", "prefix:"))


def show(value: float, unit: str, decimals: int | None = None, now: float | None = None) -> str:
    """Return a number in its unit; `now` is what "ago" refers to, in seconds since 1970."""
    if not math.isfinite(value):
        return {math.inf: "∞", -math.inf: "−∞"}.get(value, "–")
    if unit == "dateTimeFromNow":
        return _ago((now or 0) - value / 1000)
    if unit.startswith("suffix:"):
        return _number(value, decimals) + unit.removeprefix("suffix:")
    if unit.startswith("prefix:"):
        return unit.removeprefix("prefix:") + _number(value, decimals)
    if unit in _RATES:
        return _scaled(value, decimals, 1000, _THOUSANDS) + _RATES[unit]
    return _SHOWN.get(unit, _plain)(value, decimals)


def _plain(value: float, decimals: int | None) -> str:
    return _number(value, decimals)


def _number(value: float, decimals: int | None) -> str:
    """Return a number with as many decimals as asked for, else with three significant digits."""
    if decimals is None:
        decimals = _decimals(value)
        text = f"{value:.{decimals}f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
    else:
        text = f"{value:.{decimals}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def _decimals(value: float) -> int:
    if value == 0:
        return 0
    return max(0, _SIGNIFICANT - 1 - math.floor(math.log10(abs(value))))


def _scaled(value: float, decimals: int | None, base: int, names: Sequence[str]) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return _number(value, decimals) + names[power]


def _seconds(value: float, decimals: int | None) -> str:
    if value == 0:
        return "0 s"
    for limit, size, name in (*_TIMES, *_LONG_TIMES):
        if abs(value) < limit:
            return f"{_number(value / size, decimals)} {name}"
    return _number(value, decimals)


def _ago(seconds: float) -> str:
    past = abs(seconds)
    size, name = next(((size, name) for limit, size, name in _AGES if past < limit), (86400, "day"))
    count = round(past / size)
    text = f"{count} {name}{'' if count == 1 else 's'}"
    return f"{text} ago" if seconds >= 0 else f"in {text}"


_SHOWN: dict[str, Callable[[float, int | None], str]] = {
    "short": lambda value, decimals: _scaled(value, decimals, 1000, _THOUSANDS),
    "locale": lambda value, decimals: f"{value:,.{decimals or 0}f}".replace("-", "−"),
    "percentunit": lambda value, decimals: _number(100 * value, decimals) + " %",
    "percent": lambda value, decimals: _number(value, decimals) + " %",
    "s": _seconds,
    "ms": lambda value, decimals: _seconds(value / 1000, decimals),
    "bytes": lambda value, decimals: _scaled(value, decimals, 1024, _BYTES),
}
