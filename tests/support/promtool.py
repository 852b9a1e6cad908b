"""Write promtool's unit tests from NumPy arrays, and run them.

The first promtool on PATH runs them: put another release's directory first to test with it.
"""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from bundle.arrays import Floats
from tests.support.machine import require
from tools import ROOT

RULES = ROOT / "prometheus" / "rules"
# promtool evaluates every group at the file's interval, whatever its own says; the drift rules
# are written for 1m.
EVALUATION = "1m"
# A window that ends at a minute is recorded by the next evaluation: the statistics leave out a
# minute that another group may be recording still.
LATE = 1

Labels = Mapping[str, str]


def selector(name: str, labels: Labels) -> str:
    """Return `name{label="value", ...}`."""
    return name + "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def series(name: str, labels: Labels, samples: Floats) -> dict[str, str]:
    """Return an input series with one value per interval; NaN is a scrape without it."""
    words = ["stale" if np.isnan(value) else repr(float(value)) for value in samples]
    return {"series": selector(name, labels), "values": " ".join(words)}


def started(target: Labels, scrapes: int, at: float = 0.0) -> tuple[str, dict[str, str], Floats]:
    """Return the arguments for the series of a process that started `at` seconds."""
    labels = {"job": "model", "model": "loans", "version": "a", **target}
    return "model_start_time_seconds", labels, np.full(scrapes, at)


def equals(
    name: str, labels: Labels, value: float, minute: int, within: float = 1e-6
) -> dict[str, Any]:
    """Expect the one series of exactly these labels to be so close to `value` at a minute."""
    return {
        "expr": f"abs({selector(name, labels)} - {float(value)!r}) < bool {within!r}",
        "eval_time": f"{minute + LATE}m",
        "exp_samples": [{"labels": selector("", labels), "value": 1}],
    }


def absent(name: str, labels: Labels, minute: int) -> dict[str, Any]:
    """Expect no statistic of these labels at a minute."""
    return {"expr": selector(name, labels), "eval_time": f"{minute + LATE}m", "exp_samples": []}


def check(folder: Path, interval: str, inputs: list[Any], expected: list[Any]) -> None:
    """Run promtool with all rule files on `inputs`, one sample per `interval`.

    Of inputs of the same series, as two signals of one pod have, the last counts.
    """
    distinct = list({entry["series"]: entry for entry in inputs}.values())
    group = {"interval": interval, "input_series": distinct, "promql_expr_test": expected}
    document = {
        "rule_files": [str(RULES / "*.yml")],
        "evaluation_interval": EVALUATION,
        "group_eval_order": [
            *("counters", "statistics", "classification", "segments", "sudden", "habits"),
        ],
        "tests": [group],
    }
    file = folder / "values.yml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    run(file)


def run(file: Path) -> None:
    """Run promtool's unit tests of one file."""
    done = subprocess.run(
        [require("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
