"""Grafana's colours by name, in both themes, and which of them a value has."""

from collections.abc import Mapping, Sequence
from typing import Any

# From super-light to dark; a name without a prefix is one step darker in the light theme.
_SHADES = ("super-light-", "light-", "", "semi-dark-", "dark-")
_HUES = {
    "red": ("#FFA6B0", "#FF7383", "#F2495C", "#E02F44", "#C4162A"),
    "orange": ("#FFCB7D", "#FFB357", "#FF9830", "#FF780A", "#FA6400"),
    "yellow": ("#FFF899", "#FFEE52", "#FADE2A", "#F2CC0C", "#E0B400"),
    "green": ("#C8F2C2", "#96D98D", "#73BF69", "#56A64B", "#37872D"),
    "blue": ("#C0D8FF", "#8AB8FF", "#5794F2", "#3274D9", "#1F60C4"),
    "purple": ("#DEB6F2", "#CA95E5", "#B877D9", "#A352CC", "#8F3BB8"),
}
# Neighbours differ in hue, so that lines can be distinguished.
CLASSIC = (
    *("green", "yellow", "blue", "orange", "red", "purple"),
    *("dark-green", "dark-yellow", "dark-blue", "dark-orange", "dark-red", "dark-purple"),
    *("light-green", "light-blue", "light-orange", "light-red", "light-purple"),
)
MODES = ("thresholds", "fixed", "shades", "palette-classic")


def themes() -> dict[str, dict[str, str]]:
    """Return the colours of the dark and of the light theme, by name."""
    dark, light = {"text": "#ccccdc"}, {"text": "#24292e"}
    for hue, tones in _HUES.items():
        for number, shade in enumerate(_SHADES):
            dark[shade + hue] = tones[number]
            light[shade + hue] = tones[min(number + 1, len(tones) - 1)]
    return {"dark": dark, "light": light}


# What texts stand on: the pages' grounds, of which a panel's differs little.
GROUNDS = {"dark": "#181b1f", "light": "#f4f5f5"}
# Of texts: the least by the Web Content Accessibility Guidelines 2.2, level AA.
LEAST_CONTRAST = 4.5


def inks() -> dict[str, dict[str, str]]:
    """Return the colours of texts in both themes, by name: those of `themes`, made readable."""
    return {
        theme: {name: _readable(tone, GROUNDS[theme]) for name, tone in {**tones, **_GREYS}.items()}
        for theme, tones in themes().items()
    }


# Greys that the dashboards name by their value.
_GREYS = {"#9fa7b3": "#9fa7b3"}


def _readable(color: str, ground: str) -> str:
    """Return a colour, moved away from the ground until a text in it can be read."""
    end = 0 if _luminance(ground) > 0.5 else 255  # noqa: PLR2004 half
    parts = _parts(color)
    while contrast(color, ground) < LEAST_CONTRAST:
        parts = [part + (end - part) * 0.05 for part in parts]
        color = "#" + "".join(f"{round(part):02x}" for part in parts)
    return color


def contrast(one: str, other: str) -> float:
    """Return the contrast of two colours, from 1 to 21 (WCAG 2.2)."""
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _parts(color: str) -> list[float]:
    return [float(int(color[at : at + 2], 16)) for at in (1, 3, 5)]


def _luminance(color: str) -> float:
    linear = [
        part / 255 / 12.92 if part <= 10 else ((part / 255 + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 sRGB
        for part in _parts(color)
    ]
    return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def series_color(config: Mapping[str, Any], number: int) -> str:
    """Return the colour of a line, of which `number` have the same configuration before it."""
    color = config.get("color", {})
    if color.get("mode") == "fixed":
        return str(color["fixedColor"])
    if color.get("mode") == "shades":
        hue = str(color["fixedColor"])
        return [hue, f"dark-{hue}", f"light-{hue}", f"semi-dark-{hue}"][number % 4]
    return CLASSIC[number % len(CLASSIC)]


def value_color(config: Mapping[str, Any], value: object) -> str:
    """Return the colour of a single value: fixed, or that of the highest threshold below it."""
    color = config.get("color", {})
    if color.get("mode") in ("fixed", "shades"):
        return str(color["fixedColor"])
    if color.get("mode") != "thresholds":
        return "text"
    steps: Sequence[Mapping[str, Any]] = config.get("thresholds", {}).get("steps", ())
    reached = [
        step["color"]
        for step in steps
        if step["value"] is None or (isinstance(value, int | float) and value >= step["value"])
    ]
    return str(reached[-1]) if reached else "text"
