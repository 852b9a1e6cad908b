"""Write what the study found as Markdown."""

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

from tools.honesty import streams
from tools.honesty.rules import DAY, WEEK
from tools.honesty.study import FIXED, OURS, Alarms, Study, episodes

START, END = "<!-- honesty:start -->", "<!-- honesty:end -->"

AGES: dict[str, Callable[[int], bool]] = {
    "…of these, on its first day": lambda start: start < DAY,
    "…of these, after its first week": lambda start: start >= WEEK,
}
# From so many episodes on, chance matters little.
MANY = 100


def report(study: Study) -> str:
    """Return both tables with their captions."""
    facts = {"size": study.size, "streams": streams}
    false, delay = (_wrapped(caption.format(**facts)) for caption in CAPTIONS)
    notes = (f"- {note.format(**facts)}" for note in NOTES)
    return "\n\n".join(
        [false, false_alarms(study), delay, delays(study), "\n".join(map(_wrapped, notes))]
    )


def _wrapped(text: str) -> str:
    indent = "  " if text.startswith("- ") else ""
    text = " ".join(text.split())
    return textwrap.fill(text, 100, subsequent_indent=indent, break_on_hyphens=False)


# Wrapped again once the numbers are in.
CAPTIONS = (
    """False alarms: episodes per signal in {size.days} days without drift, with the 95 % range
    where there are few. {size.signals} signals per column, {streams.ROWS_PER_MINUTE} rows a minute,
    {streams.TRAINING_ROWS:,} training rows.""",
    """Delay: hours from the change to the alarm, the median and in parentheses the worst of
    {size.signals_changed} signals; “–” where most are missed. Each column of this project is an
    age of the service when the change comes; the other rules do not depend on it.""",
)
NOTES = (
    """Traffic: the daily cycle has an amplitude of {streams.CYCLE} σ; weekends are
    {streams.WEEKEND} σ higher; the wandering mean is autoregressive, with a standard deviation of
    {streams.WANDERING} σ and a memory of one day; each user sends {streams.BURST_ROWS} rows within
    {streams.BURST_MINUTES} minutes, which share half of their variance; each repeated row comes
    {streams.REPEATS} times, within its minute or within an hour. Training rows come from the same
    traffic, at random minutes.""",
    """Changes: a stuck sensor repeats one value; before its unit changes, a signal is
    {streams.LEVEL} σ above 0 on average.""",
    """Episodes: alarms of one signal less than six hours apart are one, for every rule. One that
    lasts longer than a day counts once more for each further day.""",
    """Evidently compares with the training rows, by the test and the threshold that its report
    chooses for them. NannyML sets its thresholds by a week of undrifted traffic. Both get every
    row. NannyML's multivariate calculator runs where the correlation changes, and nothing else of
    theirs sees pairs of signals.""",
    """Signals are watched in pairs, as if the bundle named each signal with its neighbour. An alert
    about a pair counts for both.""",
    "A rule with many false alarms also alarms soon after a change that it does not see.",
)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def name(study: Study, rule: str) -> str:
    """Return what a rule is called in the tables."""
    package, _, period = rule.rpartition(" ")
    if package not in study.versions:
        return f"{package} hourly" if rule == FIXED else rule
    title = {"evidently": "Evidently", "nannyml": "NannyML"}[package]
    return f"{title} {study.versions[package]} {'hourly' if period == 'h' else 'daily'}"


def false_alarms(study: Study) -> str:
    """Return a line per rule and a column per kind of traffic."""
    rules = list(next(iter(study.false.values())))
    lines = []
    for rule in rules:
        lines.append([name(study, rule), *_row(study, rule, lambda _: True)])
        if rule == OURS:
            lines += [[age, *_row(study, rule, is_then)] for age, is_then in AGES.items()]
    return table(["rule", *study.false], lines)


def _row(study: Study, rule: str, counts: Callable[[int], bool]) -> list[str]:
    return [_rate(alarms, rule, counts) for alarms in study.false.values()]


def _rate(alarms: Alarms, rule: str, counts: Callable[[int], bool]) -> str:
    """Return the episodes per signal, with the exact range of a Poisson distribution."""
    signals = alarms[rule]
    total = sum(counts(start) for each in signals for start in episodes(each))
    rate = f"{total / len(signals):.2g}"
    if total >= MANY:
        return rate
    low, high = (
        stats.chi2.ppf(0.025, 2 * total) / 2 if total else 0.0,
        stats.chi2.ppf(0.975, 2 * total + 2) / 2,
    )
    return f"{rate} ({low / len(signals):.2g}–{high / len(signals):.2g})"


def delays(study: Study) -> str:
    """Return a line per change and a column per rule."""
    found = next(iter(study.delays.values()))
    rules = sorted(
        (rule for rule in found if "multivariate" not in rule),
        key=lambda rule: not rule.startswith(OURS),
    )
    head = ["change", *(name(study, rule) for rule in rules)]
    lines = [
        [change, *(_delay(_joint(hours, rule)) for rule in rules)]
        for change, hours in study.delays.items()
    ]
    return table(head, lines)


def _joint(found: dict[str, list[float]], rule: str) -> list[float]:
    """Return a rule's delays; a multivariate companion of the rule alarms for all signals."""
    package, _, period = rule.rpartition(" ")
    companion = found.get(f"{package} multivariate {period}", found[rule])
    each = len(found[rule]) // len(companion)
    joint = zip(found[rule], np.repeat(companion, each).tolist(), strict=True)
    return [min(pair) for pair in joint]


def _delay(hours: Sequence[float]) -> str:
    """Return median and worst."""
    median, worst = float(np.median(hours)), max(hours)
    missed = sum(map(math.isinf, hours))
    if math.isinf(median):
        return "–"
    if missed:
        return f"{median:.1f} ({missed} of {len(hours)} missed)"
    return f"{median:.1f} ({worst:.1f})"


def insert(document: str, text: str) -> str:
    """Return the document with `text` between its markers. Raises ValueError."""
    before, _, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the markers {START} and {END} are missing")
    return f"{before}{START}\n{text}\n{END}{after}"
