"""Check Prometheus, its targets, and the model that it monitors.

Pure functions of its API's answers (the `data` of each), so that a recorded answer tests them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import yaml

from tools.doctor.findings import Finding, ok, or_ok, problem, unknown

Json = dict[str, Any]

# Ours; what else a cluster's Prometheus scrapes is not our business.
JOBS = (
    *("model", "locust", "publisher", "prediction-log"),
    *("prometheus", "alertmanager", "grafana"),
)
_ROUNDS = 3
"""Missed scrapes or evaluations that are no accident."""
CLOCK_SECONDS = 5.0
REJECTED_SHARE = 0.05
"""The limit of the alerts on rejected rows."""


class Prometheus(Protocol):
    """Where the API's answers come from."""

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 JSON
        """Return the `data` of an answer of /api/v1. Raises UnreachableError."""


@dataclass(frozen=True)
class Traffic:
    """Rows per second of the last 5 minutes, by (model, version)."""

    predicted: Mapping[tuple[str, str], float]
    rejected: Mapping[tuple[str, str], float]
    worst: str = ""
    """The most frequent reason of a rejection, with its field."""

    @classmethod
    def ask(cls, prometheus: Prometheus) -> "Traffic":
        """Return the traffic that Prometheus has seen."""
        # One query, so that no scrape comes between the two.
        counters = ("model_predictions_total", "model_rows_rejected_total")
        query = " or ".join(
            "sum by (model, version, counter)"
            f' (label_replace(rate({each}[5m]), "counter", "{each}", "", ""))'
            for each in counters
        )
        rates: dict[str, dict[tuple[str, str], float]] = {each: {} for each in counters}
        for each in prometheus.get("query", query=query)["result"]:
            rates[each["metric"]["counter"]][_version(each)] = float(each["value"][1])
        reasons = "topk(1, sum by (field, reason) (rate(model_input_rejected_total[5m])) > 0)"
        worst = [each["metric"] for each in prometheus.get("query", query=reasons)["result"]]
        predicted, rejected = (rates[each] for each in counters)
        return cls(
            predicted,
            rejected,
            next((f"{each['field']}: {each['reason']}" for each in worst), ""),
        )


@dataclass(frozen=True)
class Labels:
    """Labels per second of the last 5 minutes."""

    accepted: float
    rejected: Mapping[str, float]
    """By reason."""

    @classmethod
    def ask(cls, prometheus: Prometheus) -> "Labels":
        """Return the labels that Prometheus has seen."""
        # One query, as for the rows; the labels that were accepted have no reason.
        query = (
            "sum(rate(model_feedback_total[5m]))"
            " or sum by (reason) (rate(model_feedback_rejected_total[5m]))"
        )
        found = prometheus.get("query", query=query)["result"]
        rates = {each["metric"].get("reason", ""): float(each["value"][1]) for each in found}
        return cls(rates.pop("", 0.0), rates)


@dataclass(frozen=True)
class Remedies:
    """What to do, which depends on where the stack runs."""

    no_model: str
    target_down: Mapping[str, str]
    rules_missing: str
    no_alertmanager: str
    clock: str
    optional: Sequence[str] = ()
    """Jobs that the stack works without."""
    no_receiver: str = 'see "Alerts" in docs/operations.md: SLACK_WEBHOOK_FILE sends them to Slack'
    needs_receiver: bool = False
    """Whether somebody must hear of alerts: not on a laptop, nor with simulated traffic."""
    no_traffic: str = ""
    """Empty where a model without traffic is no problem."""
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
        *traffic(Traffic.ask(prometheus), remedies),
        *labels(Labels.ask(prometheus)),
        *alertmanagers(prometheus.get("alertmanagers"), remedies),
    ]


def clocks(given: Mapping[str, float], now: float, remedy: str) -> list[Finding]:
    """Compare clocks, in seconds since 1970, with this machine's."""
    wrong = (
        problem(
            "clocks",
            f"{who} is {abs(time - now):.0f} s {'ahead' if time > now else 'behind'}",
            remedy,
        )
        for who, time in given.items()
        if abs(time - now) > CLOCK_SECONDS
    )
    return or_ok(wrong, "clocks", f"{' and '.join(given)} in step with this machine")


def targets(answer: Json, now: float, remedies: Remedies) -> list[Finding]:
    """Judge the targets that are ours; `now` is Prometheus' clock."""
    ours = _ours(answer)
    jobs = {each["labels"]["job"] for each in ours}
    found = [finding for each in ours for finding in _target(each, now, remedies)]
    if "model" not in jobs:
        found.append(
            problem("targets", "Prometheus knows no target of job model", remedies.no_model)
        )
    ages = [age for each in ours if (age := _scrape_age(each, now)) is not None]
    oldest = f", the oldest scrape is {max(ages):.0f} s old" if ages else ""
    return or_ok(found, "targets", f"{len(ours)} of {', '.join(sorted(jobs))} are up{oldest}")


def _ours(answer: Json) -> list[Json]:
    return [each for each in answer["activeTargets"] if each["labels"].get("job") in JOBS]


def _is_new(answer: Json) -> bool:
    """Return whether Prometheus knows the model, but has never scraped it."""
    health = {each["health"] for each in _ours(answer) if each["labels"]["job"] == "model"}
    return health == {"unknown"}


def _target(target: Json, now: float, remedies: Remedies) -> Iterator[Finding]:
    job, url = target["labels"]["job"], target["scrapeUrl"]
    remedy = remedies.target_down.get(job, remedies.target_down["*"])
    age = _scrape_age(target, now)
    if target["health"] == "down":
        down = unknown if job in remedies.optional else problem
        yield down("targets", f"{job} at {url} is down: {target['lastError']}", remedy)
    elif age is None:
        yield unknown("targets", f"{job} at {url} is new: not scraped yet", "ask again in a minute")
    elif age > _ROUNDS * _seconds(target["scrapeInterval"]):
        yield problem("targets", f"{job} at {url} was last scraped {age:.0f} s ago", remedy)


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
        problem("rules", f"group {name} {trouble}", remedies.rules_missing)
        for name, rules in expected.items()
        if (trouble := _difference(loaded.get(name), rules))
    ]
    for group in loaded.values():
        found += _evaluation(group, now)
    number = sum(map(len, expected.values()))
    return or_ok(found, "rules", f"all {number} in {len(expected)} groups are loaded and evaluate")


def _difference(group: Json | None, rules: Sequence[str]) -> str:
    if group is None:
        return "is not loaded"
    names = [rule["name"] for rule in group["rules"]]
    return "" if names == list(rules) else "is not the one in prometheus/rules"


def _evaluation(group: Json, now: float) -> Iterator[Finding]:
    for rule in group["rules"]:
        if rule["health"] == "err":
            remedy = f"try its expression in Prometheus; the rule is in group {group['name']}"
            yield problem("rules", f"{rule['name']} fails: {rule['lastError']}", remedy)
    at = _timestamp(group["lastEvaluation"])
    if at is not None and now - at > _ROUNDS * float(group["interval"]):
        yield problem(
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
        return [problem("reference", "no model exports model_info", "see `targets`")]
    found = (
        problem(
            "reference", f"{model} {version} runs without one: drift is blind", remedies.reference
        )
        for model, version in sorted(missing)
    )
    names = ", ".join(f"{model} {version}" for model, version in sorted(versions))
    return or_ok(found, "reference", f"there for {names}")


def traffic(seen: Traffic, remedies: Remedies) -> list[Finding]:
    """Judge whether each version that runs gets rows, and accepts them."""
    found = [finding for key in sorted(seen.predicted) for finding in _rows(key, seen, remedies)]
    return found or [unknown("traffic", "not measured yet", "ask again in a minute")]


def _rows(key: tuple[str, str], seen: Traffic, remedies: Remedies) -> Iterator[Finding]:
    name = " ".join(key)
    predicted, rejected = seen.predicted[key], seen.rejected.get(key, 0.0)
    if not predicted and not rejected:
        text = f"{name} got no rows in the last 5 minutes"
        silent = problem if remedies.no_traffic else unknown
        yield silent("traffic", text, remedies.no_traffic)
        return
    share = rejected / (predicted + rejected)
    text = f"{share:.1%} of the rows of {name} in the last 5 minutes were rejected"
    if share > REJECTED_SHARE:
        mostly = f", mostly {seen.worst}" if seen.worst else ""
        yield problem("traffic", f"{text}{mostly}", "fix the client, or serve the bundle it is for")
    else:
        yield ok("traffic", text)


def labels(seen: Labels) -> list[Finding]:
    """Judge whether labels are accepted; there need not be any."""
    rejected = sum(seen.rejected.values())
    if not seen.accepted + rejected:
        return [ok("labels", "there were none in the last 5 minutes")]
    share = rejected / (seen.accepted + rejected)
    text = f"{share:.1%} of the labels in the last 5 minutes were rejected"
    if share <= REJECTED_SHARE:
        return [ok("labels", text)]
    worst = max(seen.rejected, key=lambda reason: seen.rejected[reason])
    remedy = "see FeedbackRejected in prometheus/runbooks.md"
    if worst == "unknown":
        remedy = "give all replicas, before and after a restart, the same MODEL_PREDICTION_KEYS"
    return [problem("labels", f"{text}, mostly {worst}", remedy)]


def _version(series: Json) -> tuple[str, str]:
    return series["metric"]["model"], series["metric"]["version"]


def alertmanagers(answer: Json, remedies: Remedies) -> list[Finding]:
    """Judge whether alerts have anywhere to go."""
    active = [each["url"] for each in answer["activeAlertmanagers"]]
    if not active:
        return [problem("alerts", "Prometheus knows no Alertmanager", remedies.no_alertmanager)]
    return [ok("alerts", f"go to {', '.join(active)}")]


def receivers(config: str, remedies: Remedies) -> list[Finding]:
    """Judge whether Alertmanager's configuration, as YAML, notifies anybody."""
    known = yaml.safe_load(config)
    used = set(_routed(known["route"]))
    notifying = sorted(
        each["name"]
        for each in known["receivers"]
        if each["name"] in used and any(value for key, value in each.items() if key != "name")
    )
    if notifying:
        return [ok("receivers", f"{', '.join(notifying)} notifies")]
    silent = problem if remedies.needs_receiver else unknown
    text = "alerts notify nobody: they are on Alertmanager's page only"
    return [silent("receivers", text, remedies.no_receiver)]


def _routed(route: Json) -> Iterator[str]:
    """Yield the receivers of a route and of those below it."""
    if "receiver" in route:
        yield route["receiver"]
    for each in route.get("routes") or ():
        yield from _routed(each)


def _timestamp(text: str) -> float | None:
    """Return seconds since 1970 of an RFC 3339 time; None for Go's zero, "never"."""
    return None if text.startswith("0001-") else datetime.fromisoformat(text).timestamp()


def _seconds(duration: str) -> float:
    """Return the seconds of a Prometheus duration such as 15s or 1m30s."""
    return sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(duration))


_DURATION = re.compile(r"(\d+)(ms|s|m|h|d)")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
