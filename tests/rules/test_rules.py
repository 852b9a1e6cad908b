"""promtool passes on every test file here, and no rule is without a test."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.promtool import RULES, run

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.yml"))
Rule = dict[str, Any]


def rules(kind: str) -> list[Rule]:
    """Return every rule of one kind, `alert` or `record`, but those of the test_…_values.py."""
    apart = () if kind == "alert" else ("statistics", "classification", "segments")
    files = [file for file in RULES.glob("*.yml") if file.stem not in apart]
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


def promtool_groups() -> list[Rule]:
    """Return every group of tests of every promtool file."""
    return [group for file in FILES for group in yaml.safe_load(file.read_text())["tests"]]


def alert_cases(alert: str) -> list[list[Rule]]:
    """Return the cases of each group that ask for `alert`, in the order of time."""
    asked = [
        [case for case in group.get("alert_rule_test", []) if case["alertname"] == alert]
        for group in promtool_groups()
    ]
    return [cases for cases in asked if cases]


def is_fired(rule: Rule, case: Rule) -> bool:
    """Return whether a case expects this very rule to fire: alerts may share a name."""
    fixed = rule["labels"].items()
    return any(fixed <= alert["exp_labels"].items() for alert in case["exp_alerts"])


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_promtool_passes(file: Path) -> None:
    """The rules do what the file says."""
    run(file)


@pytest.mark.parametrize(
    "rule",
    [rule for rule in rules("alert") if rule["alert"] != "Watchdog"],
    ids=lambda rule: "-".join([rule["alert"], *rule["labels"].values()]),
)
def test_alert_is_tested(rule: Rule) -> None:
    """Each alert is silent first and then fires in one group, and stays silent in another."""
    groups = alert_cases(rule["alert"])
    firing = [cases for cases in groups if any(is_fired(rule, case) for case in cases)]

    assert any(not is_fired(rule, cases[0]) for cases in firing)
    assert any(not case["exp_alerts"] for cases in groups if cases not in firing for case in cases)


@pytest.mark.parametrize("record", sorted({rule["record"] for rule in rules("record")}))
def test_recorded_series_is_tested(record: str) -> None:
    """Each recorded series is asked for by an expression of a test."""
    asked = [
        case["expr"] for group in promtool_groups() for case in group.get("promql_expr_test", [])
    ]

    assert any(record in expr for expr in asked)
