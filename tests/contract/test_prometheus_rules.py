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
    annotations = rule["annotations"]

    assert rule["for"]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(annotations) == {"summary", "description", "runbook_url"}
    assert annotations["runbook_url"] == f"prometheus/runbooks.md#{rule['alert'].lower()}"


@on_each_alert
def test_alert_has_a_runbook(rule: dict[str, Any]) -> None:
    """Each alert's link leads to a section with all four parts, in order."""
    section = sections()[rule["alert"].lower()]

    assert re.findall(r"^\*\*(\w+)\*\* · ", section, flags=re.MULTILINE) == PARTS


def test_runbooks_hold_no_alert_that_is_gone() -> None:
    """No section is left over."""
    assert set(sections()) == {rule["alert"].lower() for rule in ALERTS}


def test_drift_is_evaluated_once_a_minute() -> None:
    """The windows count on one sample a minute: 60 make an hour."""
    assert [group["interval"] for group in GROUPS if group["name"] == "drift"] == ["1m"]


def test_group_names_are_unique() -> None:
    """The operator puts all groups into one object, which needs a name for each."""
    names = [group["name"] for group in GROUPS]

    assert len(names) == len(set(names))


def test_rendering_is_fresh() -> None:
    """prometheusrule.yaml is what render.py makes of the rules."""
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
