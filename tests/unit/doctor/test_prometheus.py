"""The doctor's judgement of Prometheus' answers."""

from typing import Any

import pytest

from tools import ROOT
from tools.doctor import local
from tools.doctor.findings import Finding, Level
from tools.doctor.prometheus import (
    alertmanagers,
    clocks,
    expected_rules,
    references,
    rule_groups,
    targets,
)

Json = dict[str, Any]

NOW = 1795370400.0  # 2026-11-22T18:00:00Z
REMEDIES = local.REMEDIES
RULES = {"drift": ["model_feature:psi", "FeatureDrift"]}


def ills(findings: list[Finding]) -> list[str]:
    """Return the texts of what is wrong; each must have a remedy."""
    found = [finding for finding in findings if finding.level is Level.ILL]
    assert all(finding.remedy for finding in found)
    return [finding.text for finding in found]


def target(job: str = "model", **changes: str) -> Json:
    """Return an active target as Prometheus 2.42 and 3 tell of it."""
    return {
        "labels": {"job": job, "instance": f"{job}:8001"},
        "scrapePool": "targets",
        "scrapeUrl": f"http://{job}:8001/metrics",
        "lastError": "",
        "lastScrape": "2026-11-22T17:59:50.123456789Z",
        "lastScrapeDuration": 0.004,
        "health": "up",
        "scrapeInterval": "15s",
        "scrapeTimeout": "10s",
    } | changes


def test_targets_that_are_up_are_one_line() -> None:
    """Their number, their jobs, and how old the oldest scrape is."""
    answer = {"activeTargets": [target(), target("grafana"), target("node-exporter")]}

    (finding,) = targets(answer, NOW, REMEDIES)

    assert str(finding) == (
        "ok    targets: 2 of grafana, model are up, the oldest scrape is 10 s old"
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"health": "down", "lastError": "connection\n refused"},
            "model at http://model:8001/metrics is down: connection refused",
        ),
        (
            {"lastScrape": "2026-11-22T18:59:00+01:00"},
            "model at http://model:8001/metrics was last scraped 60 s ago",
        ),
    ],
    ids=["down", "stale"],
)
def test_a_target_that_gives_nothing_is_named(changes: dict[str, str], text: str) -> None:
    """With its address, the reason and what to do."""
    answer = {"activeTargets": [target(**changes), target("locust")]}

    assert ills(targets(answer, NOW, REMEDIES)) == [text]


def test_a_target_that_was_never_scraped_is_not_stale() -> None:
    """Go's zero time is no date: such a target is new, and its model may still tell of itself."""
    new = target(health="unknown", lastScrape="0001-01-01T00:00:00Z")

    assert [each.level for each in targets({"activeTargets": [new]}, NOW, REMEDIES)] == [
        Level.UNKNOWN
    ]
    assert [each.level for each in references([], [], REMEDIES, new=True)] == [Level.UNKNOWN]


def test_a_prometheus_that_does_not_know_the_model_is_found_out() -> None:
    """All targets are up, and yet nobody looks at the model."""
    answer = {"activeTargets": [target("grafana")]}

    assert ills(targets(answer, NOW, REMEDIES)) == ["Prometheus knows no target of job model"]


def group(**changes: Any) -> Json:  # noqa: ANN401 JSON
    """Return a rule group as Prometheus tells of it."""
    rules = [{"name": name, "health": "ok"} for name in RULES["drift"]]
    return {
        "name": "drift",
        "file": "/etc/prometheus/rules/drift.yml",
        "interval": 60,
        "lastEvaluation": "2026-11-22T17:59:30Z",
        "rules": rules,
    } | changes


def test_loaded_rules_are_one_line() -> None:
    """Other people's groups do not count."""
    answer = {"groups": [group(), group(name="kubernetes-apps")]}

    (finding,) = rule_groups(answer, RULES, NOW, REMEDIES)

    assert finding.text == "all 2 in 1 groups are loaded and evaluate"


@pytest.mark.parametrize(
    ("groups", "text"),
    [
        ([], "group drift is not loaded"),
        ([group(rules=[])], "group drift is not the one in prometheus/rules"),
        (
            [
                group(
                    rules=[
                        {"name": "model_feature:psi", "health": "err", "lastError": "many"},
                        {"name": "FeatureDrift", "health": "ok"},
                    ]
                )
            ],
            "model_feature:psi fails: many",
        ),
        (
            [group(lastEvaluation="2026-11-22T17:50:00Z")],
            "group drift was last evaluated 600 s ago",
        ),
    ],
    ids=["absent", "stale", "failing", "stuck"],
)
def test_rules_that_do_not_work_are_named(groups: list[Json], text: str) -> None:
    """Absent, of another time, failing or not evaluated: each is another line."""
    assert ills(rule_groups({"groups": groups}, RULES, NOW, REMEDIES)) == [text]


def test_the_expected_rules_are_those_of_the_files() -> None:
    """Recording rules by what they record, alerts by their name."""
    expected = expected_rules(ROOT / "prometheus" / "rules")

    names = [name for rules in expected.values() for name in rules]
    assert {"model_feature:psi", "ModelDown"} <= set(names)


def series(version: str) -> Json:
    """Return a series of a version of the model."""
    return {"metric": {"model": "wine", "version": version}, "value": [NOW, "1"]}


def test_a_version_without_reference_is_named() -> None:
    """Of two versions side by side, the one that drift cannot be told of."""
    running, known = [series("a1"), series("b2")], [series("a1"), series("z9")]

    assert ills(references(running, known, REMEDIES)) == [
        "wine b2 runs without one: drift is blind"
    ]
    assert ills(references(running[:1], known, REMEDIES)) == []


def test_no_version_at_all_is_no_health() -> None:
    """Silence must not pass for a model with a reference."""
    assert ills(references([], [], REMEDIES)) == ["no model says that it runs (model_info)"]


@pytest.mark.parametrize(
    ("skew", "expected"),
    [
        (0.9, []),
        (-4.0, []),
        (90.0, ["Prometheus is 90 s ahead"]),
        (-3600.0, ["Prometheus is 3600 s behind"]),
    ],
)
def test_a_clock_that_is_off_is_told(skew: float, expected: list[str]) -> None:
    """By how much, and in which direction."""
    assert ills(clocks({"Prometheus": NOW + skew}, NOW, "set it")) == expected


def test_alerts_need_an_alertmanager() -> None:
    """A dropped one does not count."""
    nobody: Json = {"activeAlertmanagers": [], "droppedAlertmanagers": [{"url": "http://a"}]}
    somebody: Json = {"activeAlertmanagers": [{"url": "http://alertmanager:9093/api/v2/alerts"}]}

    assert ills(alertmanagers(nobody, REMEDIES)) == ["Prometheus knows no Alertmanager"]
    assert ills(alertmanagers(somebody, REMEDIES)) == []
