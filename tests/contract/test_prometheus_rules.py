"""Every alert says what it means and what to do; the rendering for the operator is fresh."""

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tests.support.machine import require
from tools import ROOT

PROMETHEUS = ROOT / "prometheus"
RUNBOOKS = (PROMETHEUS / "runbooks.md").read_text()
PARTS = ["Meaning", "Impact", "Diagnosis", "Mitigation"]
FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
GROUPS = [group for file in FILES for group in yaml.safe_load(file.read_text())["groups"]]
ALERTS = [rule for group in GROUPS for rule in group["rules"] if "alert" in rule]

# What always fires waits for nothing, and nobody has to act on it.
WATCHDOG = "Watchdog"

on_each_alert = pytest.mark.parametrize(
    "rule", ALERTS, ids=lambda rule: "-".join([rule["alert"], *rule["labels"].values()])
)


def sections() -> dict[str, str]:
    """Return the text of each section of the runbooks by its anchor."""
    parts = re.split(r"^## (\w+)$", RUNBOOKS, flags=re.MULTILINE)[1:]
    return {name.lower(): text for name, text in zip(parts[::2], parts[1::2], strict=True)}


@on_each_alert
def test_alert_is_complete(rule: dict[str, Any]) -> None:
    """Each alert waits, has a severity, and names what, how much and what to do."""
    annotations, is_watchdog = rule["annotations"], rule["alert"] == WATCHDOG

    assert bool(rule.get("for")) != is_watchdog
    assert (rule["labels"]["severity"] == "none") == is_watchdog
    assert rule["labels"]["severity"] in {"page", "ticket", "none"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    page, _, anchor = annotations["runbook_url"].partition("#")
    assert (page, anchor) == ("{{ $externalURL }}/consoles/runbooks.html", rule["alert"].lower())


@on_each_alert
def test_alert_has_a_runbook(rule: dict[str, Any]) -> None:
    """Each alert's link leads to a section with all four parts, in order."""
    section = sections()[rule["alert"].lower()]

    assert re.findall(r"^\*\*(\w+)\*\* · ", section, flags=re.MULTILINE) == PARTS


def test_runbooks_hold_no_alert_that_is_gone() -> None:
    """No section is left over."""
    assert set(sections()) == {rule["alert"].lower() for rule in ALERTS}


def test_counters_are_read_once_a_minute() -> None:
    """The windows count on one sample a minute: 60 make an hour."""
    assert [group["interval"] for group in GROUPS if group["name"] == "counters"] == ["1m"]


def test_windows_differ_in_the_window_only() -> None:
    """Rules that record the same series for several windows or references compute it alike."""
    # 60 minutes, and the 59 pairs of neighbours among them. Rows out of range have no day.
    ranges = {"[59m59s999ms]": "[23h59m59s999ms]", "[58m59s999ms]": "[23h58m59s999ms]"}
    rules = [rule for group in GROUPS for rule in group["rules"] if "record" in rule]
    hours = [rule for rule in rules if rule.get("labels", {}).get("window") == "1h"]
    pairs = {
        rule["record"]: (rule["expr"], hour["expr"])
        for rule in rules
        for hour in hours
        if rule["record"] == hour["record"] and rule["labels"]["window"] == "1d"
        if any(each in rule["expr"] for each in ranges.values())
    }

    assert set(pairs) == {"model:increase", "model_feature:variation"}
    for day, hour in pairs.values():
        for short, long in ranges.items():
            hour = hour.replace(short, long)  # noqa: PLW2901 each range in turn
        assert day.replace(',counter!="feature_out_of_range"', "") == hour


def test_every_recorded_series_is_read() -> None:
    """By another rule, an alert or a dashboard: nothing is recorded for its own sake."""
    dashboards = (ROOT / "grafana" / "provisioning" / "dashboards").glob("*.json")
    readers = [each.read_text() for each in (*FILES, *dashboards)]
    recorded = {rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule}
    text = re.sub(r"record: \S+", "", "\n".join(readers))
    names = set(re.findall(r"(?<![\w:])[a-z_]+:[\w:]+", text))

    assert recorded - names == set()


def test_both_lists_of_counters_are_one() -> None:
    """What is read of a process that ended is what is read of one that runs."""
    [group] = [group for group in GROUPS if group["name"] == "counters"]
    text = "\n".join(rule["expr"] for rule in group["rules"])
    lists = re.findall(r'__name__=~"([^"]+)"', text)

    assert len(lists) == 2
    assert lists[0] == lists[1]


def test_group_names_are_unique() -> None:
    """The operator puts all groups into one object, which needs a name for each."""
    names = [group["name"] for group in GROUPS]

    assert len(names) == len(set(names))


def test_rendering_is_fresh() -> None:
    """What is committed is what render.py makes of the sources."""
    done = subprocess.run([sys.executable, PROMETHEUS / "render.py", "--check"], check=False)

    assert done.returncode == 0


def test_rendering_holds_the_rules() -> None:
    """The PrometheusRule has the same groups, in the operator's envelope."""
    rule = yaml.safe_load((PROMETHEUS / "prometheusrule.yaml").read_text())

    assert (rule["apiVersion"], rule["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert rule["spec"]["groups"] == GROUPS


def test_kustomization_exports_the_rendering() -> None:
    """Kustomize builds the directory into that one object."""
    command = [require("kustomize"), "build", str(PROMETHEUS)]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert [document["kind"] for document in yaml.safe_load_all(built)] == ["PrometheusRule"]
