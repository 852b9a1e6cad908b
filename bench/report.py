"""Figures, the goals they are compared with, and both as Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

START, END = "<!-- bench:start -->", "<!-- bench:end -->"


@dataclass(frozen=True)
class Goal:
    """What was wanted, what was measured, and whether the goal is met."""

    area: str
    wanted: str
    figure: str
    met: bool


@dataclass(frozen=True)
class Section:
    """What one group has measured: a table (its first row is the header), goals and notes."""

    title: str
    table: Sequence[Sequence[str]] = ()
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = field(default=())


def at_least(area: str, what: str, figure: float, least: float, unit: str = "") -> Goal:
    """Return the goal that a figure is not less than `least`."""
    wanted = f"{what} ≥ {least:,g}{unit}"
    return Goal(area, wanted, f"{number_text(figure)}{unit}", figure >= least)


def at_most(area: str, what: str, figure: float, most: float, unit: str = "") -> Goal:
    """Return the goal that a figure is not more than `most`."""
    wanted = f"{what} ≤ {most:,g}{unit}"
    return Goal(area, wanted, f"{number_text(figure)}{unit}", figure <= most)


def number_text(value: float) -> str:
    """Return a number with three significant digits or, from 1,000 on, as an integer."""
    if abs(value) >= 999.5:  # noqa: PLR2004
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def spread(values: Sequence[float]) -> list[str]:
    """Return two cells: the median, and the range from lowest to highest."""
    return [number_text(median(values)), f"{number_text(min(values))} – {number_text(max(values))}"]


def markdown(sections: Sequence[Section], head: Sequence[str]) -> str:
    """Return the first group's table, the goals of all groups, and the other tables folded."""
    first, *others = sections
    goals = [goal for section in sections for goal in section.goals]
    parts = [*head, *_parts(first)]
    if goals:
        rows = [(g.area, g.wanted, g.figure, "ok" if g.met else "**missed**") for g in goals]
        parts.append(_table([("", "goal", "measured", ""), *rows]))
    if rest := [part for section in others for part in _parts(section)]:
        parts += ["<details><summary>More figures</summary>", *rest, "</details>"]
    return "\n\n".join(parts) + "\n"


def _parts(section: Section) -> list[str]:
    table = [f"**{section.title}**", _table(section.table)] if section.table else []
    return [*table, *section.notes]


def replace_between_markers(text: str, new: str) -> str:
    """Return a document with `new` between the markers. Raises ValueError without them."""
    before, start, rest = text.partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the markers {START} and {END} are missing")
    return f"{before}{START}\n{new}{END}{after}"


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, rule, *body))
