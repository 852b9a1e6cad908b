"""Write promtool's unit tests from NumPy arrays, and run them."""

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


def equals(name: str, labels: Labels, value: float, minute: int) -> dict[str, Any]:
    """Expect the one series of exactly these labels to be within 1e-6 of `value`."""
    return {
        "expr": f"abs({selector(name, labels)} - {float(value)!r}) < bool 1e-6",
        "eval_time": f"{minute}m",
        "exp_samples": [{"labels": selector("", labels), "value": 1}],
    }


def absent(name: str, labels: Labels, minute: int) -> dict[str, Any]:
    """Expect no series of these labels."""
    return {"expr": selector(name, labels), "eval_time": f"{minute}m", "exp_samples": []}


def check(folder: Path, interval: str, inputs: list[Any], expected: list[Any]) -> None:
    """Run promtool with all rule files on `inputs`, one sample per `interval`.

    Of inputs of the same series, as two signals of one pod have, the last counts.
    """
    distinct = list({entry["series"]: entry for entry in inputs}.values())
    group = {"interval": interval, "input_series": distinct, "promql_expr_test": expected}
    document = {
        "rule_files": [str(RULES / "*.yml")],
        "evaluation_interval": EVALUATION,
        "group_eval_order": ["statistics", "sudden", "habits"],
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
