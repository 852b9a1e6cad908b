"""Check a stack on Kubernetes, with kubectl and nothing else."""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tools.doctor import kubernetes, prometheus
from tools.doctor.findings import Finding, UnreachableError, problem, unknown

Json = dict[str, Any]

REMEDIES = prometheus.Remedies(
    no_model="see `selection` and `endpoints`: nothing of ours is scraped",
    target_down={
        "model": "kubectl logs deployment/model; a NetworkPolicy may keep Prometheus out",
        "*": "look at its pod and at NetworkPolicies between it and Prometheus",
    },
    rules_missing="`./task render` and `./task k8s:apply`; see `selection`; it takes a minute",
    no_alertmanager="`./task k8s:monitoring`",
    clock="set the node's clock by NTP, or this machine's",
)
_CUSTOM = {
    "ServiceMonitor": "servicemonitors.monitoring.coreos.com",
    "PrometheusRule": "prometheusrules.monitoring.coreos.com",
}
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
class ProxiedPrometheus:
    """Prometheus' API through the API server, so that no port has to be forwarded."""

    kubectl: Kubectl
    namespace: str

    def get(self, path: str, **parameters: str) -> Any:  # noqa: ANN401 JSON
        """Return the `data` of an answer. Raises UnreachableError."""
        service = f"/api/v1/namespaces/{self.namespace}/services/prometheus-operated:9090"
        query = f"?{urlencode(parameters)}" if parameters else ""
        answer = json.loads(
            self.kubectl.say("get", "--raw", f"{service}/proxy/api/v1/{path}{query}")
        )
        data = answer["data"]
        return data["result"] if data and data.get("resultType") == "scalar" else data


@dataclass(frozen=True)
class Stack:
    """The objects of a stack, from the API server."""

    prometheuses: list[Json]
    custom: list[Json]
    namespaces: list[Json]
    pods: list[Json]
    services: list[Json]


def examine(kubectl: Kubectl, namespace: str, rules: Path) -> Iterator[Finding]:
    """Check a cluster, from the pods to the dashboards."""
    try:
        stack = _ask(kubectl, namespace)
    except UnreachableError as error:
        yield problem("cluster", str(error), _remedy(str(error)))
        return
    monitors = [each for each in stack.custom if each["kind"] == "ServiceMonitor"]
    yield from kubernetes.pods(stack.pods)
    yield from kubernetes.selection(stack.prometheuses, stack.custom, stack.namespaces)
    yield from kubernetes.endpoints(monitors, stack.services)
    yield from _dashboards(kubectl, namespace)
    for each in kubernetes.that_select(stack.prometheuses, stack.custom, stack.namespaces):
        where = ProxiedPrometheus(kubectl, each["metadata"]["namespace"])
        try:
            yield from prometheus.examine(where, rules, REMEDIES, time.time())
        except UnreachableError as error:
            name = each["metadata"]["name"]
            yield problem("prometheus", f"{name} does not answer: {error}", "look at its pod")


def _ask(kubectl: Kubectl, namespace: str) -> Stack:
    here = ("--namespace", namespace)
    return Stack(
        prometheuses=kubectl.items("prometheuses.monitoring.coreos.com", "--all-namespaces"),
        # kubectl leaves `kind` out of the items of some lists.
        custom=[
            {**each, "kind": kind}
            for kind, resource in _CUSTOM.items()
            for each in kubectl.items(resource, *here)
        ],
        namespaces=kubectl.items("namespaces"),
        pods=kubectl.items("pods", *here),
        services=kubectl.items("services", *here),
    )


def _remedy(error: str) -> str:
    if "not installed" in error:
        return "https://kubernetes.io/docs/tasks/tools"
    if "the server doesn't have a resource type" in error:
        return "the operator is not there: `./task k8s:monitoring`"
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
