"""Check a cluster's objects: what is selected, what pods wait for, what Grafana has.

Pure functions of kubectl's answers; tools/doctor/cluster.py asks for them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tools.doctor.findings import Finding, or_ok, problem

Json = dict[str, Any]

DASHBOARD_LABEL = "grafana_dashboard"
_SELECTORS = {
    "ServiceMonitor": ("serviceMonitorSelector", "serviceMonitorNamespaceSelector"),
    "PrometheusRule": ("ruleSelector", "ruleNamespaceSelector"),
}
# The beginning of a container's reason for waiting, and what to do about it.
_WAITING = {
    'secret "model-secrets" not found': (
        "create it: kubectl create secret generic model-secrets -n {namespace}"
        " --from-literal=MODEL_PREDICTION_KEYS=$(openssl rand -hex 32)"
    ),
    'secret "fiddler-secrets" not found': "fill in k8s/secrets/fiddler, then `./task k8s:fiddler`",
    "ImagePullBackOff": "load the images with `./task k8s:images`, or push them to a registry",
    "ErrImagePull": "load the images with `./task k8s:images`, or push them to a registry",
    "CrashLoopBackOff": "kubectl logs -n {namespace} {pod} -c {container} --previous",
}


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
        name, namespace = each["metadata"]["name"], each["metadata"]["namespace"]
        kind = each["kind"].lower()
        yield problem(
            "selection",
            f"{each['kind']} {name} is ignored: {'; '.join(reasons)}",
            f"add what is missing in the overlay, or: kubectl label -n {namespace} {kind} {name} …",
        )


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


def endpoints(monitors: Iterable[Json], services: Sequence[Json]) -> list[Finding]:
    """Judge whether each ServiceMonitor finds a Service that has the port it names."""
    found: list[Finding] = []
    number = 0
    for monitor in monitors:
        number += 1
        wanted = {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]}
        chosen = [
            service
            for service in services
            if not mismatches(monitor["spec"]["selector"], service["metadata"].get("labels", {}))
        ]
        offered = {port.get("name") for each in chosen for port in each["spec"]["ports"]}
        if not wanted <= offered:
            what = f"no port {' and '.join(sorted(wanted - offered))}" if chosen else "no Service"
            name = monitor["metadata"]["name"]
            remedy = "compare its selector and port with the Service's labels and ports"
            found.append(problem("endpoints", f"ServiceMonitor {name} finds {what}", remedy))
    return or_ok(found, "endpoints", f"{number} ServiceMonitors find their Service and port")


def pods(answer: Sequence[Json]) -> list[Finding]:
    """Judge whether every pod runs and is ready, and name what it waits for."""
    running = [pod for pod in answer if pod["status"]["phase"] != "Succeeded"]
    if not running:
        return [problem("pods", "there are none", "`./task k8s:apply`")]
    found = [finding for pod in running for finding in _pod(pod)]
    return or_ok(found, "pods", f"{len(running)} are ready")


def _pod(pod: Json) -> Iterator[Finding]:
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    status = pod["status"]
    waiting = [
        (each["name"], each["state"]["waiting"])
        for key in ("initContainerStatuses", "containerStatuses")
        for each in status.get(key, ())
        if each["state"].get("waiting", {}).get("reason") not in (None, "PodInitializing")
    ]
    for container, state in waiting:
        text = f"{state['reason']} {state.get('message', '')}".strip()
        remedy = next(
            (value for key, value in _WAITING.items() if key in text), "kubectl describe pod"
        )
        yield problem(
            "pods",
            f"{name}: {container} waits: {text}",
            remedy.format(namespace=namespace, pod=name, container=container),
        )
    conditions = {each["type"]: each for each in status.get("conditions", ())}
    if not waiting and conditions.get("Ready", {}).get("status") != "True":
        blocked = conditions.get("PodScheduled", {})
        cause = blocked if blocked.get("status") == "False" else conditions.get("Ready", {})
        yield problem(
            "pods",
            f"{name} is not ready: {cause.get('message', status['phase'])}",
            f"kubectl describe pod -n {namespace} {name}",
        )


def dashboards(configmaps: Sequence[Json], files: Iterable[str]) -> list[Finding]:
    """Judge whether Grafana's sidecar has written each of our dashboards."""
    there = {file.rpartition("/")[2] for file in files}
    labelled = [
        each
        for each in configmaps
        if each["metadata"].get("labels", {}).get(DASHBOARD_LABEL) == "1"
    ]
    wanted = {key: each["metadata"]["name"] for each in labelled for key in each.get("data", {})}
    if not wanted:
        remedy = "`./task k8s:apply`"
        return [problem("dashboards", f"no ConfigMap has the label {DASHBOARD_LABEL}=1", remedy)]
    found = [
        problem(
            "dashboards",
            f"{key} of ConfigMap {name} is not in Grafana's sidecar",
            "it must watch all namespaces (sidecar.dashboards.searchNamespace: ALL); see its log",
        )
        for key, name in sorted(wanted.items())
        if key not in there
    ]
    return or_ok(found, "dashboards", f"{len(wanted)} are in Grafana's sidecar")
