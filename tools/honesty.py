"""Simulate how often the drift verdict is wrong: false alarms without drift, power with it.

The same windows go to the two common alternatives: PSI (population stability index) > 0.2, and a
one-sample chi-squared test at the 5 % level. `--write FILE` replaces the tables between the markers
of a Markdown file.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from bundle.arrays import Floats

Rule = Callable[[Floats, Floats], npt.NDArray[np.bool_]]

# As in prometheus/rules/drift.yml; tests/unit/tools/test_honesty.py compares them.
EFFECT = 0.1
ROWS = 200
NORMAL_QUANTILE = 3.090232306

CONVENTION = 0.2

BINS = 10
REFERENCE_ROWS = 1282
SAMPLE_SIZES = (100, 200, 500, 1000, 5000)
REPEATS = (1, 2, 10)
SHIFTS = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
TRIALS = 20_000
SEED = 3

START, END = "<!-- honesty:start -->", "<!-- honesty:end -->"


def psi(counts: Floats, reference: Floats) -> Floats:
    """Return the PSI of counts (..., bins) against reference (..., bins), both smoothed."""
    p, q = ((rows + 0.5) / (rows + 0.5).sum(axis=-1, keepdims=True) for rows in (counts, reference))
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def noise(counts: Floats, reference: Floats) -> Floats:
    """Return the PSI that two samples of one distribution have on average (Yurdakul 2018)."""
    spread = 1 / counts.sum(axis=-1) + 1 / reference.sum(axis=-1)
    return np.asarray((counts.shape[-1] - 1) * spread)


def critical(counts: Floats, reference: Floats) -> Floats:
    """Return the PSI that is exceeded in 0.1 % of windows without drift (Wilson-Hilferty)."""
    spread = 2 / (9 * (counts.shape[-1] - 1))
    factor = float((1 - spread + NORMAL_QUANTILE * spread**0.5) ** 3)
    return noise(counts, reference) * factor


def verdict(counts: Floats, reference: Floats) -> npt.NDArray[np.bool_]:
    """Report drift as the rules do; "cannot tell" is not drift."""
    found = psi(counts, reference)
    large = found - noise(counts, reference) > EFFECT
    significant = found > critical(counts, reference)
    return np.asarray(large & significant & (counts.sum(axis=-1) >= ROWS))


def fixed(counts: Floats, reference: Floats) -> npt.NDArray[np.bool_]:
    """Report drift by the convention of credit scoring, whatever the number of rows."""
    return psi(counts, reference) > CONVENTION


def one_sample(counts: Floats, reference: Floats) -> npt.NDArray[np.bool_]:
    """Report drift by chi-squared at 5 %, as if the reference were not a sample itself."""
    threshold = stats.chi2.ppf(0.95, counts.shape[-1] - 1) / counts.sum(axis=-1)
    return np.asarray(psi(counts, reference) > threshold)


RULES: dict[str, Rule] = {"verdict": verdict, f"PSI > {CONVENTION}": fixed, "χ² test": one_sample}


@cache
def trained() -> tuple[Floats, Floats]:
    """Return each trial's decile edges (trials, bins - 1) and the training rows per bin (bins,).

    Without ties the deciles of one sample hold as many rows as those of any other.
    """
    rows = np.random.default_rng(SEED).standard_normal((TRIALS, REFERENCE_ROWS))
    edges = np.quantile(rows, np.arange(1, BINS) / BINS, axis=1).T
    below = (rows[0] < edges[0][:, None]).sum(axis=1)
    counts = np.diff(below, prepend=0, append=REFERENCE_ROWS)
    return np.asarray(edges), counts.astype(float)


def serve(rows: int, *, shift: float = 0.0, repeat: int = 1) -> Floats:
    """Return each trial's live rows per bin (trials, bins).

    They are normal like the training rows, with a mean `shift` standard deviations higher, and each
    row occurs `repeat` times.
    """
    rng = np.random.default_rng([SEED, rows, round(100 * shift), repeat])
    shares = np.diff(special.ndtr(trained()[0] - shift), axis=1, prepend=0.0, append=1.0)
    return repeat * rng.multinomial(rows // repeat, shares).astype(float)


def alarm_rates(rows: int, *, shift: float = 0.0, repeat: int = 1) -> list[float]:
    """Return the share of trials in which each rule reports drift."""
    counts, reference = serve(rows, shift=shift, repeat=repeat), trained()[1]
    return [float(rule(counts, reference).mean()) for rule in RULES.values()]


def _percent(share: float) -> str:
    return f"{100 * share:.3g}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---", "---", *["--:"] * (len(head) - 2)]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, rule, *lines))


def report() -> str:
    """Return both tables as Markdown."""
    sizes = [f"{rows:,} rows" for rows in SAMPLE_SIZES]
    false_alarms, power = [], []
    for repeat in REPEATS:
        what = "independent rows" if repeat == 1 else f"each row {repeat} times"
        rates = [alarm_rates(rows, repeat=repeat) for rows in SAMPLE_SIZES]
        false_alarms += _lines(what, rates)
    for shift in SHIFTS:
        rates = [alarm_rates(rows, shift=shift) for rows in SAMPLE_SIZES]
        power += _lines(f"{shift:g} σ", rates)
    setting = f"reference of {REFERENCE_ROWS:,} rows in {BINS} bins, {TRIALS:,} windows per cell"
    return "\n\n".join(
        [
            f"False alarms: % of windows without drift that are reported as drift ({setting}).",
            _table(["traffic", "rule", *sizes], false_alarms),
            "Power: % of windows reported as drift after a mean shift in standard deviations (σ).",
            _table(["shift", "rule", *sizes], power),
            f"Below {ROWS} rows the verdict is “cannot tell”.",
        ]
    )


def _lines(what: str, rates: Sequence[Sequence[float]]) -> list[list[str]]:
    """Return one table line per rule from rates (sizes, rules)."""
    return [
        [what if index == 0 else "", name, *(_percent(by_rule[index]) for by_rule in rates)]
        for index, name in enumerate(RULES)
    ]


def insert(document: str, text: str) -> str:
    """Return the document with `text` between its markers. Raises ValueError."""
    before, _, rest = document.partition(START)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the markers {START} and {END} are missing")
    return f"{before}{START}\n{text}\n{END}{after}"


def main(arguments: Sequence[str]) -> int:
    """Print the tables, or write them into a file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", type=Path, metavar="FILE", help="Markdown file with the markers")
    file: Path | None = parser.parse_args(arguments).write
    if file is None:
        print(report())
        return 0
    try:
        file.write_text(insert(file.read_text("utf-8"), report()), "utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"honesty: {file}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
