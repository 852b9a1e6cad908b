"""What the report says first: a verdict per model and version, and what changed, ranked."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from tools.report import accuracy
from tools.report.changes import LABELS, Change, by_labels
from tools.report.client import Prometheus
from tools.report.context import View
from tools.report.units import show

_MOST_EVENTS = 8
_MOST_SIGNALS = 12
# Below this a mean has not moved, whatever else of the distribution has.
_LEAST_SHIFT = 0.1
_PSI = (
    "PSI (population stability index) compares the shares of training's bins: 0 is as in training,"
    " and more than 0.1 beyond chance is drift. σ: training's standard deviation."
)
_OUTPUTS = {"prediction": "The predictions have", "score": "The scores have"}
# Below so many effective rows there is no verdict (prometheus/rules/statistics.yml).
_JUDGED = 200
_PAGE = ("ModelDown", "AvailabilityBurnRate", "LatencyBurnRate")


@dataclass(frozen=True)
class Verdict:
    """One model and version: a sentence, and the answers that it follows from."""

    model: str
    version: str
    sentence: str
    color: str
    answers: Sequence[tuple[str, str, str]]
    """Name, answer and colour."""


@dataclass(frozen=True)
class Summary:
    """The words above the panels."""

    verdicts: Sequence[Verdict]
    changes: Sequence[Change]

    @property
    def legend(self) -> str:
        """What the words of the changes mean; nothing where they need no explanation."""
        return _PSI if any("PSI" in each.text for each in self.changes) else ""

    @property
    def headline(self) -> str:
        """The verdicts in one line."""
        lines = [f"{each.model} {each.sentence.partition(':')[0]}" for each in self.verdicts]
        return "; ".join(dict.fromkeys(lines)) or "no model answers"


def summarize(boards: Sequence[View], prometheus: Prometheus) -> Summary:
    """Return the summary; the verdicts are those of the overview's first table."""
    changes = sorted(_changes(boards, prometheus), key=lambda each: -each.weight)
    return Summary(_verdicts(boards), changes or [_nothing(boards)])


def _verdicts(boards: Sequence[View]) -> list[Verdict]:
    tables = [
        panel["view"]
        for board in boards
        if board["uid"] == "ml-overview"
        for section in board.get("sections", ())
        for panel in section["panels"]
        if panel["title"] == "Verdict" and "rows" in panel["view"]
    ]
    return [_verdict(table["columns"], row) for table in tables for row in table["rows"]]


def _verdict(columns: Sequence[View], row: Sequence[View]) -> Verdict:
    cells = {column["name"]: cell for column, cell in zip(columns, row, strict=True)}
    model, version, verdict = (cells.pop(name) for name in ("Model", "Version", "Verdict"))
    answers = [(name, cell["text"] or "unknown", cell["color"]) for name, cell in cells.items()]
    return Verdict(model["text"], version["text"], verdict["text"], verdict["color"], answers)


def _nothing(boards: Sequence[View]) -> Change:
    verdicts = _verdicts(boards)
    if verdicts and all("cannot be judged" in each.sentence for each in verdicts):
        text = "Nothing can be said yet: there are too few rows. No alert fires."
        return Change(0, text, "text", "#ml-overview")
    return Change(
        0,
        "Nothing: inputs and predictions are as in training, and no alert fires.",
        "green",
        "#ml-overview",
    )


def _changes(boards: Sequence[View], prometheus: Prometheus) -> Iterator[Change]:
    yield from _alerts(prometheus)
    yield from accuracy.changes(prometheus)
    yield from _signals(prometheus)
    yield from _dependent(prometheus)
    yield from _events(boards)


def _alerts(prometheus: Prometheus) -> Iterator[Change]:
    expr = 'count by (alertname, severity) (ALERTS{alertstate="firing",severity!="none"})'
    for (name, severity), count in by_labels(prometheus, expr, "alertname", "severity").items():
        series = "" if count == 1 else f" for {count:.0f} series"
        weight = 3e3 if name in _PAGE else 1e3
        color = "red" if severity == "page" else "orange"
        yield Change(weight, f"Alert {name} ({severity}) fires{series}.", color, "#ml-overview")


def _signals(prometheus: Prometheus) -> Iterator[Change]:
    drifted = sorted(_drifted(prometheus), key=lambda each: -each.weight)
    yield from drifted[:_MOST_SIGNALS]
    if rest := drifted[_MOST_SIGNALS:]:
        text = f"{len(rest)} more {'signal has' if len(rest) == 1 else 'signals have'} drifted."
        yield Change(rest[0].weight, text, "red", "#ml-drift")


def _dependent(prometheus: Prometheus) -> Iterator[Change]:
    """Yield why nothing can be judged although there are rows: they are not independent."""
    rows, effective = (
        by_labels(
            prometheus,
            f'max by ({", ".join(LABELS)}) (model_feature:{name}{{window="1h"}})',
            *LABELS,
        )
        for name in ("rows", "effective_rows")
    )
    for key, number in rows.items():
        if number >= _JUDGED > effective.get(key, number):
            text = (
                f"The {number:,.0f} rows of the last hour say as much as {effective[key]:,.0f}"
                f" independent ones, because they repeat or come in clusters; a verdict needs"
                f" {_JUDGED}."
            )
            yield Change(1, text, "text", "#ml-drift")


def _drifted(prometheus: Prometheus) -> Iterator[Change]:
    labels = (*LABELS, "feature")
    window = '{window="1h",reference="training"}'
    found = {
        name: by_labels(prometheus, f"model_feature:{name}{window}", *labels)
        for name in ("psi", "psi_noise", "mean_shift_sigma")
    }
    importance = by_labels(
        prometheus, "max by (job, model, version, feature) (model_feature_importance)", *labels
    )
    for key in by_labels(prometheus, f"model_feature:verdict{window} == 1", *labels):
        psi, noise = found["psi"].get(key, 0), found["psi_noise"].get(key, 0)
        shift = found["mean_shift_sigma"].get(key, 0)
        what = _OUTPUTS.get(key[-1], f"{key[-1]} has")
        text = (
            f"{what} drifted: PSI {show(psi, 'none', 2)} ({show(noise, 'none', 2)} by chance)"
            f"{_moved(shift)}."
        )
        weight = psi * importance.get(key, 1) + (100 if key[-1] in _OUTPUTS else 0)
        yield Change(weight, text, "red", f"#ml-drift&feature={quote(key[-1], safe='')}")


def _moved(shift: float) -> str:
    if abs(shift) < _LEAST_SHIFT:
        return ""
    # The unit does not begin a line of its own.
    return f", mean {shift:+.1f}\N{NO-BREAK SPACE}σ".replace("-", "−")


def _events(boards: Sequence[View]) -> Iterator[Change]:
    """Yield what began within the range, the newest first: versions and traffic."""
    events = {
        (each["at"], each["title"], each["text"]): each["color"]
        for board in boards
        for each in board.get("annotations", ())
        if each["color"] != "red"  # alerts, which are listed above while they fire
    }
    for (at, title, text), color in sorted(events.items())[-_MOST_EVENTS:]:
        clock = datetime.fromtimestamp(at, UTC).strftime("%H:%M UTC")
        yield Change(at / 1e12 - 1, f"{clock}: {title} ({text}).", color, "#ml-overview")


def as_markdown(summary: Summary) -> str:
    """Return the summary as Markdown, as for a pull request."""
    lines = ["## ML monitoring", ""]
    for each in summary.verdicts:
        lines += [f"**{_plain(each.model)}** `{each.version}` {_plain(each.sentence)}", ""]
        lines += _row(name for name, _, _ in each.answers)
        lines += _row("---" for _ in each.answers)
        lines += [*_row(text for _, text, _ in each.answers), ""]
    lines += ["No model answers.", ""] if not summary.verdicts else []
    lines += ["What changed:", "", *(f"1. {_plain(each.text)}" for each in summary.changes), ""]
    lines += [summary.legend, ""] if summary.legend else []
    return "\n".join(lines)


def _row(cells: Iterable[str]) -> list[str]:
    return [f"| {' | '.join(cell if cell == '---' else _plain(cell) for cell in cells)} |"]


def _plain(text: str) -> str:
    """Return a text in which Markdown finds nothing to format: names come from elsewhere."""
    return re.sub(r"([\\`*_\[\]<>|~#&])", r"\\\1", text)
