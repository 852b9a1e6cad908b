"""Check which of our monitors and rules a Prometheus takes, and say what makes it take the rest.

Pure functions of kubectl's answers; tools/doctor/cluster.py asks for them.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tools.doctor.findings import Finding, or_ok, problem

Json = dict[str, Any]

_SELECTORS = {
    "ServiceMonitor": ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
    "PrometheusRule": ("ruleSelector", "ruleNamespaceSelector"),
}
_EDIT = "kubectl edit"


def that_select(
    prometheuses: Sequence[Json], custom: Sequence[Json], namespaces: Sequence[Json]
) -> list[Json]:
    """Return the Prometheuses that take any of our objects: others are not our business."""
    labels = _labels_by_name(namespaces)
    return [
        prometheus
        for prometheus in prometheuses
        if not all(_why_not(each, prometheus, labels) for each in custom)
    ]


def selection(
    prometheuses: Sequence[Json], custom: Sequence[Json], namespaces: Sequence[Json]
) -> list[Finding]:
    """Judge whether some Prometheus takes each of our ServiceMonitors and PrometheusRules."""
    if not prometheuses:
        return [
            problem(
                "selection", "there is no Prometheus in this cluster", "`./task k8s:monitoring`"
            )
        ]
    labels = _labels_by_name(namespaces)
    found = (finding for each in custom for finding in _unselected(each, prometheuses, labels))
    kinds = [each["kind"] for each in custom]
    missing = [
        problem("selection", f"there is no {kind} of ours", "`./task k8s:apply`")
        for kind in _SELECTORS
        if kind not in kinds
    ]
    return or_ok([*missing, *found], "selection", f"{len(kinds)} monitors and rules are selected")


def _labels_by_name(objects: Sequence[Json]) -> dict[str, Mapping[str, str]]:
    return {each["metadata"]["name"]: each["metadata"].get("labels", {}) for each in objects}


def _unselected(
    each: Json, prometheuses: Sequence[Json], namespaces: Mapping[str, Mapping[str, str]]
) -> Iterator[Finding]:
    reasons = [_why_not(each, prometheus, namespaces) for prometheus in prometheuses]
    if all(reasons):
        yield problem(
            "selection",
            f"{each['kind']} {each['metadata']['name']} is ignored: {'; '.join(reasons)}",
            f"set it in the overlay, or now: {_remedy(each, prometheuses, namespaces)}",
        )


def _remedy(
    each: Json, prometheuses: Sequence[Json], namespaces: Mapping[str, Mapping[str, str]]
) -> str:
    """Return the fewest commands after which a Prometheus takes an object; labels come first."""
    found = [_commands(each, prometheus, namespaces) for prometheus in prometheuses]
    fewest = min(found, key=lambda commands: (_EDIT in commands[-1], len(commands)))
    return " && ".join(fewest)


def _commands(
    each: Json, prometheus: Json, namespaces: Mapping[str, Mapping[str, str]]
) -> list[str]:
    selector, within = (prometheus["spec"].get(key) for key in _SELECTORS[each["kind"]])
    name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
    own = label_changes(selector, each["metadata"].get("labels", {}))
    around = label_changes(within, namespaces.get(namespace, {}))
    label = "kubectl label --overwrite"
    commands = (
        [f"{label} -n {namespace} {each['kind'].lower()} {name} {' '.join(own)}"] if own else []
    )
    if around:
        commands.append(f"{label} namespace {namespace} {' '.join(around)}")
    if selector is None or within is None:
        who = prometheus["metadata"]
        commands.append(f"{_EDIT} -n {who['namespace']} prometheus {who['name']}")
    return commands


def label_changes(selector: Json | None, labels: Mapping[str, str]) -> list[str]:
    """Return what to give `kubectl label` so that labels fulfil a selector."""
    if selector is None:
        return []
    exact = selector.get("matchLabels", {}).items()
    terms = selector.get("matchExpressions", ())
    return [
        *(f"{key}={value}" for key, value in exact if labels.get(key) != value),
        *(_label_change(term) for term in terms if not _holds(term, labels)),
    ]


def _label_change(term: Json) -> str:
    if term["operator"] in {"NotIn", "DoesNotExist"}:
        return f"{term['key']}-"
    return f"{term['key']}={next(iter(term.get('values', ())), 'true')}"


def _why_not(each: Json, prometheus: Json, namespaces: Mapping[str, Mapping[str, str]]) -> str:
    """Return why a Prometheus does not take an object, or nothing where it does."""
    selector, namespace_selector = _SELECTORS[each["kind"]]
    who = f"Prometheus {prometheus['metadata']['namespace']}/{prometheus['metadata']['name']}"
    missing = mismatches(prometheus["spec"].get(selector), each["metadata"].get("labels", {}))
    if missing:
        return f"{who} wants the label {' and '.join(missing)}"
    namespace = each["metadata"]["namespace"]
    within = prometheus["spec"].get(namespace_selector)
    if within is None:
        own = prometheus["metadata"]["namespace"] == namespace
        return "" if own else f"{who} looks into its own namespace only"
    missing = mismatches(within, namespaces.get(namespace, {}))
    return f"{who} wants namespaces labelled {' and '.join(missing)}" if missing else ""


def mismatches(selector: Json | None, labels: Mapping[str, str]) -> list[str]:
    """Return the terms of a label selector that labels do not fulfil; None selects nothing."""
    if selector is None:
        return ["(it selects nothing)"]
    exact = [
        f"{key}={value}"
        for key, value in selector.get("matchLabels", {}).items()
        if labels.get(key) != value
    ]
    terms = selector.get("matchExpressions", ())
    return exact + [_term(term) for term in terms if not _holds(term, labels)]


def _holds(term: Json, labels: Mapping[str, str]) -> bool:
    value = labels.get(term["key"])
    values = term.get("values", ())
    return {
        "In": value in values,
        "NotIn": value not in values,
        "Exists": value is not None,
        "DoesNotExist": value is None,
    }[str(term["operator"])]


def _term(term: Json) -> str:
    return f"{term['key']} {term['operator']} {', '.join(term.get('values', ()))}".strip()
