"""Check a stack on Kubernetes, with kubectl and nothing else."""

import json
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.doctor import kubernetes, prometheus, selection
from tools.doctor.findings import Finding, UnreachableError, problem, unknown

Json = dict[str, Any]

REMEDIES = prometheus.Remedies(
    no_model="see `selection` and `endpoints`: nothing of ours is scraped",
    target_down={
        "model": "kubectl logs deployment/model; a NetworkPolicy may keep Prometheus out",
        "*": "look at its pod and at NetworkPolicies between it and Prometheus",
    },
    rules_missing="`./task render` and `./task k8s:apply`; see `selection`; it takes a minute",
    no_alertmanager="install kube-prometheus-stack (`./task k8s:monitoring`)",
    no_receiver='see "Alerts" in k8s/README.md: with SLACK_WEBHOOK_FILE, they go to Slack',
    clock="set the node's clock by NTP, or this machine's",
)
_CUSTOM = {
    "ServiceMonitor": "servicemonitors.monitoring.coreos.com",
    "PrometheusRule": "prometheusrules.monitoring.coreos.com",
}
_AUTOSCALERS = "horizontalpodautoscalers.autoscaling"
_SIDECAR = ("grafana-sc-dashboard", "/tmp/dashboards")  # noqa: S108 the chart's container and place


@dataclass(frozen=True)
class Kubectl:
    """One cluster, as kubectl reaches it."""

    context: str | None = None

    def items(self, resource: str, *words: str) -> list[Json]:
        """Return objects. Raises UnreachableError."""
        found: list[Json] = json.loads(self.say("get", resource, "--output", "json", *words))[
            "items"
        ]
        return found

    def say(self, *words: str) -> str:
        """Return what kubectl prints. Raises UnreachableError with the last line of its error."""
        chosen = ["--context", self.context] if self.context else []
        command = ["kubectl", *chosen, "--request-timeout", "15s", *words]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except FileNotFoundError as error:
            raise UnreachableError("kubectl is not installed") from error
        except subprocess.TimeoutExpired as error:
            raise UnreachableError(f"kubectl {words[0]} took over a minute") from error
        if done.returncode:
            raise UnreachableError((done.stderr.strip().splitlines() or ["it printed nothing"])[-1])
        return done.stdout


@dataclass(frozen=True)
class Proxied:
    """The API of a Service, given as name:port, through the API server: no port is forwarded."""

    kubectl: Kubectl
    namespace: str
    service: str

    def json(self, path: str) -> Any:  # noqa: ANN401 JSON
        """Return an answer. Raises UnreachableError."""
        service = f"/api/v1/namespaces/{self.namespace}/services/{self.service}/proxy"
        return json.loads(self.kubectl.say("get", "--raw", f"{service}/{path}"))

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 JSON
        """Return the `data` of an answer of Prometheus. Raises UnreachableError."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        data = self.json(f"api/v1/{path}{query}")["data"]
        return data["result"] if data and data.get("resultType") == "scalar" else data


def examine(kubectl: Kubectl, namespace: str, rules: Path) -> Iterator[Finding]:
    """Check a cluster, from the pods to the receivers; a failed check does not stop the rest."""
    here = ("--namespace", namespace)
    try:
        kubectl.say("get", "namespace", namespace, "--output", "name")
    except UnreachableError as error:
        yield problem("cluster", str(error), _remedy(str(error)))
        return
    checks: dict[str, Callable[[], Iterable[Finding]]] = {
        "pods": lambda: kubernetes.pods(kubectl.items("pods", *here)),
        "autoscaler": lambda: kubernetes.autoscalers(kubectl.items(_AUTOSCALERS, *here)),
        "dashboards": lambda: _dashboards(kubectl, namespace),
        "operator": lambda: _monitoring(kubectl, namespace, rules),
    }
    for subject, check in checks.items():
        try:
            yield from check()
        except UnreachableError as error:
            yield problem(subject, str(error), _remedy(str(error)))


def _monitoring(kubectl: Kubectl, namespace: str, rules: Path) -> Iterator[Finding]:
    """Check what the operator selects, and the Prometheus that it configures."""
    here = ("--namespace", namespace)
    prometheuses = kubectl.items("prometheuses.monitoring.coreos.com", "--all-namespaces")
    # kubectl leaves `kind` out of the items of some lists.
    custom = [
        {**each, "kind": kind}
        for kind, resource in _CUSTOM.items()
        for each in kubectl.items(resource, *here)
    ]
    monitors = [each for each in custom if each["kind"] == "ServiceMonitor"]
    namespaces = kubectl.items("namespaces")
    yield from selection.selection(prometheuses, custom, namespaces)
    yield from kubernetes.endpoints(monitors, kubectl.items("services", *here))
    # Simulated traffic wakes nobody.
    simulated = any(each["metadata"]["name"] == "locust" for each in monitors)
    remedies = replace(REMEDIES, needs_receiver=not simulated)
    for each in selection.that_select(prometheuses, custom, namespaces):
        yield from kubernetes.storage([each])
        yield from _prometheus(kubectl, each, rules, remedies)
        yield from _alertmanager(kubectl, each, remedies)


def _prometheus(
    kubectl: Kubectl, each: Json, rules: Path, remedies: prometheus.Remedies
) -> Iterator[Finding]:
    where = Proxied(kubectl, each["metadata"]["namespace"], "prometheus-operated:9090")
    try:
        yield from prometheus.examine(where, rules, remedies, time.time())
    except UnreachableError as error:
        name = each["metadata"]["name"]
        yield problem("prometheus", f"{name} does not answer: {error}", "look at its pod")


def _alertmanager(kubectl: Kubectl, each: Json, remedies: prometheus.Remedies) -> Iterator[Finding]:
    where = Proxied(kubectl, each["metadata"]["namespace"], "alertmanager-operated:9093")
    try:
        status = where.json("api/v2/status")
    except UnreachableError as error:
        yield unknown("receivers", f"no Alertmanager to ask: {error}")
        return
    yield from prometheus.receivers(status["config"]["original"], remedies)


def _remedy(error: str) -> str:
    if "not installed" in error:
        return "https://kubernetes.io/docs/tasks/tools"
    if "the server doesn't have a resource type" in error:
        return "the operator is not there: `./task k8s:monitoring`"
    if "namespaces" in error and "not found" in error:
        return "`./task k8s:apply`, or name another with --namespace"
    return "start it with `./task k8s:cluster`, or name another with --context"


def _dashboards(kubectl: Kubectl, namespace: str) -> Iterator[Finding]:
    try:
        label = ("--selector", "app.kubernetes.io/name=grafana")
        grafanas = kubectl.items("pods", "--all-namespaces", *label)
        if not grafanas:
            yield unknown("dashboards", "there is no Grafana in this cluster")
            return
        pod = grafanas[0]["metadata"]
        container, directory = _SIDECAR
        files = kubectl.say(
            *("exec", "--namespace", pod["namespace"], pod["name"], "--container", container),
            *("--", "find", directory, "-name", "*.json"),
        )
        configmaps = kubectl.items("configmaps", "--namespace", namespace)
    except UnreachableError as error:
        yield unknown("dashboards", f"could not be checked: {error}")
        return
    yield from kubernetes.dashboards(configmaps, files.split())
