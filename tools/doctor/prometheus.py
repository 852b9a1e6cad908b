"""What Prometheus says of itself, of its targets, and of the model it watches.

Pure functions of its API's answers (the `data` of each), so that a recorded answer tests them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from tools.doctor.findings import Finding, ill, or_well, unknown, well

Json = dict[str, Any]

# Ours; what else a cluster's Prometheus scrapes is not our business.
JOBS = ("model", "locust", "publisher", "prometheus", "alertmanager", "grafana")
_ROUNDS = 3
"""Missed scrapes or evaluations that are no accident."""
CLOCK_SECONDS = 5.0


class Prometheus(Protocol):
    """Where the API's answers come from."""

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 JSON
        """Return the `data` of an answer of /api/v1. Raises UnreachableError."""


@dataclass(frozen=True)
class Remedies:
    """What to do, which depends on where the stack runs."""

    no_model: str
    target_down: Mapping[str, str]
    rules_missing: str
    no_alertmanager: str
    clock: str
    reference: str = "train again with `./task train` and start the model with that bundle"


def examine(prometheus: Prometheus, rules: Path, remedies: Remedies, now: float) -> list[Finding]:
    """Ask Prometheus everything; `now` is this machine's clock, in seconds since 1970."""
    clock = float(prometheus.get("query", query="time()")[1])
    active = prometheus.get("targets", state="active")
    running = prometheus.get("query", query="group by (model, version) (model_info)")
    known = prometheus.get(
        "query", query="group by (model, version) (model_feature_reference_ratio)"
    )
    return [
        *clocks({"Prometheus": clock}, now, remedies.clock),
        *targets(active, clock, remedies),
        *rule_groups(prometheus.get("rules"), expected_rules(rules), clock, remedies),
        *references(running["result"], known["result"], remedies, new=_is_new(active)),
        *alertmanagers(prometheus.get("alertmanagers"), remedies),
    ]


def clocks(told: Mapping[str, float], now: float, remedy: str) -> list[Finding]:
    """Compare clocks, in seconds since 1970, with this machine's."""
    wrong = (
        ill(
            "clocks",
            f"{who} is {abs(time - now):.0f} s {'ahead' if time > now else 'behind'}",
            remedy,
        )
        for who, time in told.items()
        if abs(time - now) > CLOCK_SECONDS
    )
    return or_well(wrong, "clocks", f"{' and '.join(told)} in step with this machine")


def targets(answer: Json, now: float, remedies: Remedies) -> list[Finding]:
    """Judge the targets that are ours; `now` is Prometheus' clock."""
    ours = _ours(answer)
    jobs = {each["labels"]["job"] for each in ours}
    found = [finding for each in ours for finding in _target(each, now, remedies)]
    if "model" not in jobs:
        found.append(ill("targets", "Prometheus knows no target of job model", remedies.no_model))
    ages = [age for each in ours if (age := _scrape_age(each, now)) is not None]
    oldest = f", the oldest scrape is {max(ages):.0f} s old" if ages else ""
    return or_well(found, "targets", f"{len(ours)} of {', '.join(sorted(jobs))} are up{oldest}")


def _ours(answer: Json) -> list[Json]:
    return [each for each in answer["activeTargets"] if each["labels"].get("job") in JOBS]


def _is_new(answer: Json) -> bool:
    """Tell whether Prometheus knows the model, but has never scraped it."""
    health = {each["health"] for each in _ours(answer) if each["labels"]["job"] == "model"}
    return health == {"unknown"}


def _target(target: Json, now: float, remedies: Remedies) -> Iterator[Finding]:
    job, url = target["labels"]["job"], target["scrapeUrl"]
    remedy = remedies.target_down.get(job, remedies.target_down["*"])
    age = _scrape_age(target, now)
    if target["health"] == "down":
        yield ill("targets", f"{job} at {url} is down: {target['lastError']}", remedy)
    elif age is None:
        yield unknown("targets", f"{job} at {url} is new: not scraped yet", "ask again in a minute")
    elif age > _ROUNDS * _seconds(target["scrapeInterval"]):
        yield ill("targets", f"{job} at {url} was last scraped {age:.0f} s ago", remedy)


def _scrape_age(target: Json, now: float) -> float | None:
    """Return the seconds since the last scrape, None before the first."""
    at = _timestamp(target["lastScrape"])
    return None if at is None else max(0.0, now - at)


def expected_rules(directory: Path) -> dict[str, list[str]]:
    """Return the names of the rules in each group of the rule files."""
    return {
        group["name"]: [rule.get("record") or rule["alert"] for rule in group["rules"]]
        for file in sorted(directory.glob("*.yml"))
        for group in yaml.safe_load(file.read_text())["groups"]
    }


def rule_groups(
    answer: Json, expected: Mapping[str, Sequence[str]], now: float, remedies: Remedies
) -> list[Finding]:
    """Judge whether our rules are loaded as they are written, and evaluate."""
    loaded = {group["name"]: group for group in answer["groups"] if group["name"] in expected}
    found = [
        ill("rules", f"group {name} {trouble}", remedies.rules_missing)
        for name, rules in expected.items()
        if (trouble := _difference(loaded.get(name), rules))
    ]
    for group in loaded.values():
        found += _evaluation(group, now)
    number = sum(map(len, expected.values()))
    return or_well(
        found, "rules", f"all {number} in {len(expected)} groups are loaded and evaluate"
    )


def _difference(group: Json | None, rules: Sequence[str]) -> str:
    if group is None:
        return "is not loaded"
    names = [rule["name"] for rule in group["rules"]]
    return "" if names == list(rules) else "is not the one in prometheus/rules"


def _evaluation(group: Json, now: float) -> Iterator[Finding]:
    for rule in group["rules"]:
        if rule["health"] == "err":
            remedy = f"try its expression in Prometheus; the rule is in group {group['name']}"
            yield ill("rules", f"{rule['name']} fails: {rule['lastError']}", remedy)
    at = _timestamp(group["lastEvaluation"])
    if at is not None and now - at > _ROUNDS * float(group["interval"]):
        yield ill(
            "rules",
            f"group {group['name']} was last evaluated {now - at:.0f} s ago",
            "Prometheus is overloaded: see prometheus_rule_group_last_duration_seconds",
        )


def references(
    running: Iterable[Json], known: Iterable[Json], remedies: Remedies, *, new: bool = False
) -> list[Finding]:
    """Judge whether each version that runs has a reference to be compared with."""
    versions = {_version(each) for each in running}
    missing = versions - {_version(each) for each in known}
    if not versions and new:
        return [unknown("reference", "the model is new: not scraped yet", "ask again in a minute")]
    if not versions:
        return [ill("reference", "no model says that it runs (model_info)", "see `targets`")]
    found = (
        ill("reference", f"{model} {version} runs without one: drift is blind", remedies.reference)
        for model, version in sorted(missing)
    )
    names = ", ".join(f"{model} {version}" for model, version in sorted(versions))
    return or_well(found, "reference", f"there for {names}")


def _version(series: Json) -> tuple[str, str]:
    return series["metric"]["model"], series["metric"]["version"]


def alertmanagers(answer: Json, remedies: Remedies) -> list[Finding]:
    """Judge whether alerts have anywhere to go."""
    active = [each["url"] for each in answer["activeAlertmanagers"]]
    if not active:
        return [ill("alerts", "Prometheus knows no Alertmanager", remedies.no_alertmanager)]
    return [well("alerts", f"go to {', '.join(active)}")]


def _timestamp(text: str) -> float | None:
    """Return seconds since 1970 of an RFC 3339 time; None for Go's zero, "never"."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text).timestamp()


def _seconds(duration: str) -> float:
    """Return the seconds of a Prometheus duration such as 15s or 1m30s."""
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
