"""How the doctor judges Prometheus' answers."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.findings import problems
from tools import ROOT
from tools.doctor import cluster, local
from tools.doctor.findings import Level
from tools.doctor.prometheus import (
    Labels,
    Traffic,
    alertmanagers,
    clocks,
    expected_rules,
    labels,
    receivers,
    references,
    rule_groups,
    targets,
    traffic,
)

Json = dict[str, Any]

NOW = 1795370400.0  # 2026-11-22T18:00:00Z
REMEDIES = local.REMEDIES
RULES = {"drift": ["model_feature:psi", "FeatureDrift"]}


def target(job: str = "model", **changes: str) -> Json:
    """Return an active target as Prometheus 2.42 and 3 answer."""
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

    assert problems(targets(answer, NOW, REMEDIES)) == [text]


def test_a_missing_grafana_is_no_problem_on_this_machine() -> None:
    """Its image or program cannot be had everywhere; in a cluster it is the chart's."""
    answer = {"activeTargets": [target(), target("grafana", health="down", lastError="refused")]}

    (finding,) = targets(answer, NOW, REMEDIES)

    assert finding.level is Level.UNKNOWN
    assert len(problems(targets(answer, NOW, cluster.REMEDIES))) == 1


def test_a_target_that_was_never_scraped_is_not_stale() -> None:
    """Go's zero time is no date: such a target is new, and so is its model."""
    new = target(health="unknown", lastScrape="0001-01-01T00:00:00Z")

    assert [each.level for each in targets({"activeTargets": [new]}, NOW, REMEDIES)] == [
        Level.UNKNOWN
    ]
    assert [each.level for each in references([], [], REMEDIES, new=True)] == [Level.UNKNOWN]


def test_a_prometheus_without_the_models_target_is_a_problem() -> None:
    """All targets are up, and yet the model is not monitored."""
    answer = {"activeTargets": [target("grafana")]}

    assert problems(targets(answer, NOW, REMEDIES)) == ["Prometheus knows no target of job model"]


def group(**changes: Any) -> Json:  # noqa: ANN401 JSON
    """Return a rule group as Prometheus answers."""
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
    assert problems(rule_groups({"groups": groups}, RULES, NOW, REMEDIES)) == [text]


def test_the_expected_rules_are_those_of_the_files() -> None:
    """Recording rules by what they record, alerts by their name."""
    expected = expected_rules(ROOT / "prometheus" / "rules")

    names = [name for rules in expected.values() for name in rules]
    assert {"model_feature:psi", "ModelDown"} <= set(names)


def series(version: str) -> Json:
    """Return a series of a version of the model."""
    return {"metric": {"model": "loans", "version": version}, "value": [NOW, "1"]}


def test_a_version_without_reference_is_named() -> None:
    """Of two versions side by side, the one whose drift cannot be computed."""
    running, known = [series("a1"), series("b2")], [series("a1"), series("z9")]

    assert problems(references(running, known, REMEDIES)) == [
        "loans b2 runs without one: drift is blind"
    ]
    assert problems(references(running[:1], known, REMEDIES)) == []


def test_no_version_at_all_is_a_problem() -> None:
    """Silence must not pass for a model with a reference."""
    assert problems(references([], [], REMEDIES)) == ["no model exports model_info"]


@pytest.mark.parametrize(
    ("skew", "expected"),
    [
        (0.9, []),
        (-4.0, []),
        (90.0, ["Prometheus is 90 s ahead"]),
        (-3600.0, ["Prometheus is 3600 s behind"]),
    ],
)
def test_a_clock_that_is_off_is_a_problem(skew: float, expected: list[str]) -> None:
    """The text says by how much, and in which direction."""
    assert problems(clocks({"Prometheus": NOW + skew}, NOW, "set it")) == expected


def test_alerts_need_an_alertmanager() -> None:
    """A dropped one does not count."""
    nobody: Json = {"activeAlertmanagers": [], "droppedAlertmanagers": [{"url": "http://a"}]}
    somebody: Json = {"activeAlertmanagers": [{"url": "http://alertmanager:9093/api/v2/alerts"}]}

    assert problems(alertmanagers(nobody, REMEDIES)) == ["Prometheus knows no Alertmanager"]
    assert problems(alertmanagers(somebody, REMEDIES)) == []


ROUTE = "route: {receiver: ui, routes: [{matchers: [severity = page], receiver: pager}]}\n"


@pytest.mark.parametrize(
    ("known", "notifying"),
    [
        ("[{name: ui}, {name: pager}]", ""),
        ("[{name: ui}, {name: pager}, {name: unused, slack_configs: [{}]}]", ""),
        ("[{name: ui, slack_configs: []}, {name: pager}]", ""),
        ("[{name: ui}, {name: pager, webhook_configs: [{url: <secret>}]}]", "pager"),
        ("[{name: ui, slack_configs: [{}]}, {name: pager}]", "ui"),
    ],
    ids=["none", "not routed to", "empty", "one route", "default"],
)
def test_alerts_that_notify_nobody_are_a_problem(known: str, notifying: str) -> None:
    """Some receiver that a route leads to must have an integration."""
    remedies = replace(REMEDIES, needs_receiver=True)

    found = receivers(f"{ROUTE}receivers: {known}\n", remedies)

    expected = [] if notifying else ["alerts notify nobody: they are on Alertmanager's page only"]
    assert problems(found) == expected
    assert not notifying or found[0].text == f"{notifying} notifies"


def test_alerts_need_not_notify_anybody_on_a_laptop() -> None:
    """The doctor says so all the same."""
    (finding,) = receivers(f"{ROUTE}receivers: [{{name: ui}}, {{name: pager}}]\n", REMEDIES)

    assert finding.level is Level.UNKNOWN
    assert "SLACK_WEBHOOK_FILE" in finding.remedy


@pytest.mark.parametrize(
    ("accepted", "rejected", "expected"),
    [
        (0.0, {}, []),
        (0.0, {"unknown": 0.0}, []),
        (96.0, {"duplicate": 4.0}, []),
        (
            50.0,
            {"unknown": 49.0, "duplicate": 1.0},
            ["50.0% of the labels in the last 5 minutes were rejected, mostly unknown"],
        ),
    ],
    ids=["none", "no traffic", "few", "replicas with different keys"],
)
def test_labels_that_are_rejected_are_a_problem(
    accepted: float, rejected: dict[str, float], expected: list[str]
) -> None:
    """Replicas with different keys reject each other's labels."""
    found = labels(Labels(accepted, rejected))

    assert problems(found) == expected
    assert not expected or "MODEL_PREDICTION_KEYS" in found[0].remedy


LOANS = ("loans", "a1")


@pytest.mark.parametrize(
    ("predicted", "rejected", "expected"),
    [
        (95.0, 5.0, []),
        (90.0, 10.0, ["10.0% of the rows of loans a1 in the last 5 minutes were rejected"]),
        (0.0, 2.0, ["100.0% of the rows of loans a1 in the last 5 minutes were rejected"]),
        (0.0, 0.0, ["loans a1 got no rows in the last 5 minutes"]),
    ],
    ids=["few", "many", "all", "no rows"],
)
def test_traffic_that_is_missing_or_rejected_is_a_problem(
    predicted: float, rejected: float, expected: list[str]
) -> None:
    """More than 5 % of the rows rejected, or no row at all."""
    seen = Traffic({LOANS: predicted}, {LOANS: rejected})

    assert problems(traffic(seen, REMEDIES)) == expected


def test_the_most_frequent_reason_of_rejections_is_named() -> None:
    """The field and what is wrong with it."""
    seen = Traffic({LOANS: 0.0}, {LOANS: 1.0}, "ph: missing")

    (text,) = problems(traffic(seen, REMEDIES))

    assert text.endswith("were rejected, mostly ph: missing")


def test_a_model_without_traffic_is_no_problem_where_none_is_expected() -> None:
    """A cluster's model may have a quiet night; an alert of its own reports what is unusual."""
    (finding,) = traffic(Traffic({LOANS: 0.0}, {}), cluster.REMEDIES)

    assert finding.level is Level.UNKNOWN


def test_rates_that_prometheus_does_not_have_yet_are_unknown() -> None:
    """After a start it takes two scrapes."""
    (finding,) = traffic(Traffic({}, {}), REMEDIES)

    assert finding.level is Level.UNKNOWN
