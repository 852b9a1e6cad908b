"""Check a cluster's objects: what pods wait for, what scales, what is kept, what Grafana has.

Pure functions of kubectl's answers; tools/doctor/cluster.py asks for them.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tools.doctor.findings import Finding, or_ok, problem
from tools.doctor.selection import mismatches

Json = dict[str, Any]

DASHBOARD_LABEL = "grafana_dashboard"
# The beginning of a container's reason for waiting, and what to do about it.
_WAITING = {
    'secret "model-secrets" not found': (
        "create it: kubectl create secret generic model-secrets -n {namespace}"
        " --from-literal=MODEL_PREDICTION_KEYS=$(openssl rand -hex 32)"
    ),
    'secret "fiddler-secrets" not found': (
        "copy k8s/secrets/fiddler/fiddler.secret.example to fiddler.secret and fill it in, then:"
        " kubectl create secret generic fiddler-secrets -n {namespace}"
        " --from-env-file=k8s/secrets/fiddler/fiddler.secret"
    ),
    "ErrImageNeverPull": "load the images with `./task k8s:images`, then `./task k8s:apply`",
    "ImagePullBackOff": "load the images with `./task k8s:images`, or push them to a registry",
    "ErrImagePull": "load the images with `./task k8s:images`, or push them to a registry",
    "CrashLoopBackOff": "kubectl logs -n {namespace} {pod} -c {container} --previous",
}


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


def autoscalers(answer: Sequence[Json]) -> list[Finding]:
    """Judge whether each HorizontalPodAutoscaler gets its metric; there need not be one."""
    found = [finding for each in answer for finding in _autoscaler(each)]
    names = ", ".join(each["metadata"]["name"] for each in answer)
    return or_ok(found, "autoscaler", f"{names} scales" if names else "there is none")


def _autoscaler(each: Json) -> Iterator[Finding]:
    for condition in each.get("status", {}).get("conditions", ()):
        if condition["type"] in {"AbleToScale", "ScalingActive"} and condition["status"] == "False":
            yield problem(
                "autoscaler",
                f"{each['metadata']['name']} does not scale: {condition.get('message', '')}",
                "install prometheus-adapter with k8s/overlays/production/prometheus-adapter.yaml",
            )


def storage(prometheuses: Sequence[Json]) -> list[Finding]:
    """Judge whether the history of each Prometheus survives its pod."""
    found = (
        problem(
            "storage",
            f"Prometheus {each['metadata']['name']} loses its history, and with it every window of"
            " a day, when its pod goes",
            "set storageSpec, as in k8s/overlays/minikube/kube-prometheus-stack.yaml",
        )
        for each in prometheuses
        if not _has_volume(each)
    )
    return or_ok(found, "storage", "Prometheus keeps its history in a volume")


def _has_volume(prometheus: Json) -> bool:
    given = prometheus["spec"].get("storage", {})
    return "volumeClaimTemplate" in given or "ephemeral" in given


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
