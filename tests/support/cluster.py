"""A stack in a namespace of its own on somebody's cluster, reached by kubectl alone."""

import json
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import yaml

from tests.support.wait import eventually
from tools import ROOT
from tools.doctor.cluster import Kubectl, examine
from tools.doctor.findings import Level, UnreachableError

Json = dict[str, Any]

HERE = Path(__file__).parent
RULES = ROOT / "prometheus/rules"
OVERLAY = ROOT / "k8s/overlays/minikube"
# The operator's CustomResourceDefinitions that the stack needs.
DEFINITIONS = ("prometheuses", "prometheusrules", "servicemonitors")
_GROUP = "monitoring.coreos.com"
_READY = ("rollout", "status", "deployment/model", "--timeout", "180s")


class Cluster:
    """A namespace of a cluster, and the files of the overlay that is applied to it.

    `namespace` is also the label `release` of its monitors and rules, so that no Prometheus but its
    own takes them.
    """

    def __init__(self, context: str, directory: Path) -> None:
        self.context = context
        self.namespace = f"ml-monitoring-test-{secrets.token_hex(3)}"
        self._directory = directory

    def kubectl(self, *words: str, given: str | None = None) -> str:
        """Return what kubectl prints in the namespace; fail with its error."""
        command = ["kubectl", "--context", self.context, "--namespace", self.namespace, *words]
        done = subprocess.run(
            command, cwd=ROOT, input=given, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
        return done.stdout

    def run(self, commands: Sequence[str]) -> None:
        """Run commands of kubectl, written as in a shell; {namespace} stands for its name."""
        for command in commands:
            words = shlex.split(command.replace("{namespace}", self.namespace))
            self.kubectl(*words)

    def missing_definitions(self) -> list[str]:
        """Return which of the operator's definitions the cluster lacks."""
        known = self.kubectl("get", "crd", "--output", "name")
        return [name for name in DEFINITIONS if f"/{name}.{_GROUP}" not in known]

    @cached_property
    def overlay(self) -> Path:
        """The directory of overlays/minikube for this namespace, with a Prometheus."""
        directory = self._directory / "overlay"
        directory.mkdir()
        (directory / "prometheus.yaml").write_text(yaml.safe_dump_all(_prometheus(self.namespace)))
        # Traffic that is not counted, and dashboards that another Grafana would load.
        excluded = ("app.kubernetes.io/name=locust", "grafana_dashboard=1")
        return self._write(directory, OVERLAY, ["prometheus.yaml"], excluded)

    @cached_property
    def production(self) -> Path:
        """The directory of overlays/production for this namespace."""
        directory = self._directory / "production"
        directory.mkdir()
        return self._write(directory, ROOT / "k8s/overlays/production", [], ())

    def _write(
        self, directory: Path, base: Path, more: Sequence[str], excluded: Sequence[str]
    ) -> Path:
        release = [{"op": "replace", "path": "/metadata/labels/release", "value": self.namespace}]
        kustomization = {
            "namespace": self.namespace,
            "resources": [os.path.relpath(base, directory.resolve()), *more],
            "patches": [
                {"target": {"group": _GROUP, "kind": "ServiceMonitor|PrometheusRule"}}
                | {"patch": json.dumps(release)},
                *({"target": {"labelSelector": each}, "patch": _DELETE} for each in excluded),
            ],
        }
        (directory / "kustomization.yaml").write_text(json.dumps(kustomization))
        return directory

    def apply(self) -> list[str]:
        """Apply the overlay; return a line for each object."""
        return self.kubectl("apply", "--kustomize", str(self.overlay)).splitlines()

    def wait(self) -> None:
        """Wait until the model's pods and the Prometheus are ready."""
        self.kubectl(*_READY)
        pod = ("pod", "--selector", "app.kubernetes.io/name=prometheus")
        eventually(lambda: self.kubectl("get", *pod, "--output", "name"), "Prometheus has a pod")
        self.kubectl("wait", *pod, "--for", "condition=Ready", "--timeout", "180s")

    def delete(self) -> None:
        """Delete the overlay with its namespace, and wait until it is gone."""
        words = ("--ignore-not-found", "--timeout", "180s")
        self.kubectl("delete", "--kustomize", str(self.overlay), *words)

    def query(self, expression: str) -> list[Json]:
        """Return the series of an instant query; none while Prometheus does not answer."""
        path = f"/api/v1/namespaces/{self.namespace}/services/prometheus-operated:9090/proxy"
        query = urlencode({"query": expression})
        try:
            answer = Kubectl(self.context).say("get", "--raw", f"{path}/api/v1/query?{query}")
        except UnreachableError:
            return []
        result: list[Json] = json.loads(answer)["data"]["result"]
        return result

    def number(self, expression: str) -> float:
        """Return the value of a query for one series, 0 without any."""
        return sum(float(each["value"][1]) for each in self.query(expression))

    def problems(self) -> dict[str, str]:
        """Return the doctor's problems as {text: remedy}."""
        found = examine(Kubectl(self.context), self.namespace, RULES)
        return {each.text: each.remedy for each in found if each.level is Level.PROBLEM}

    def roll(self) -> None:
        """Replace every pod of the model, and wait until the old ones are gone."""
        pods = ("pod", "--selector", "app.kubernetes.io/name=model", "--output", "name")
        old = self.kubectl("get", *pods).split()
        self.kubectl("rollout", "restart", "deployment/model")
        self.kubectl(*_READY)
        for pod in old:  # one by one: some are gone already
            self.kubectl("wait", pod, "--for", "delete", "--timeout", "180s")

    @contextmanager
    def client(self, *, keep_alive: bool) -> Iterator["Client"]:
        """Send requests from a pod while the block runs."""
        try:
            yield Client(self, keep_alive=keep_alive)
        finally:
            self.kubectl("delete", "pod,configmap", "counting-client", "--ignore-not-found")


class Client:
    """A pod that counts the answers to the predictions it asks for; see counting_client.py."""

    def __init__(self, cluster: Cluster, *, keep_alive: bool) -> None:
        self._cluster = cluster
        script = str(HERE / "counting_client.py")
        cluster.kubectl("create", "configmap", "counting-client", f"--from-file={script}")
        pod = _client_pod(cluster.kubectl("get", "deployment", "model", "-o", "json"), keep_alive)
        cluster.kubectl("apply", "--filename", "-", given=json.dumps(pod))
        cluster.kubectl(
            *("wait", "pod/counting-client", "--for", "condition=Ready", "--timeout", "120s")
        )

    def stop(self) -> dict[str, int]:
        """End the traffic; return the numbers of its requests by outcome."""
        self._cluster.kubectl("exec", "counting-client", "--", "touch", "/tmp/stop")  # noqa: S108 its own
        phase = "jsonpath={.status.phase}=Succeeded"
        self._cluster.kubectl("wait", "pod/counting-client", "--for", phase, "--timeout", "60s")
        counts: dict[str, int] = json.loads(self._cluster.kubectl("logs", "counting-client"))
        return counts


_DELETE = "$patch: delete\napiVersion: any/v1\nkind: Any\nmetadata:\n  name: any\n"
_RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "runAsGroup": 10001,
    "fsGroup": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def _client_pod(deployment: str, keep_alive: bool) -> Json:  # noqa: FBT001 the client's one choice
    """Return the pod: it runs the model's image for its Python and its rows."""
    (model,) = json.loads(deployment)["spec"]["template"]["spec"]["containers"]
    mode = "kept" if keep_alive else "new"
    container = {
        "name": "client",
        "image": model["image"],
        "imagePullPolicy": model["imagePullPolicy"],
        "command": ["python", "/etc/client/counting_client.py", "http://model:8000", mode],
        "readinessProbe": {"exec": {"command": ["test", "-e", "/tmp/started"]}, "periodSeconds": 1},  # noqa: S108 its own
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        "securityContext": model["securityContext"],
        "volumeMounts": [
            {"name": "script", "mountPath": "/etc/client", "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 its own
        ],
    }
    volumes = [
        {"name": "script", "configMap": {"name": "counting-client"}},
        {"name": "tmp", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
    ]
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    spec |= {"securityContext": _RESTRICTED, "containers": [container], "volumes": volumes}
    metadata = {"name": "counting-client"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _prometheus(release: str) -> list[Json]:
    """Return a Prometheus that takes the monitors and rules of a release in its own namespace."""
    name, rbac = "prometheus-test", "rbac.authorization.k8s.io"
    labels = {"matchLabels": {"release": release}}
    watch = ["get", "list", "watch"]
    rules = [
        {"apiGroups": [""], "resources": ["services", "endpoints", "pods"], "verbs": watch},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": watch},
    ]
    spec = {
        "replicas": 1,
        "serviceAccountName": name,
        "scrapeInterval": "15s",
        "evaluationInterval": "15s",
        "serviceMonitorSelector": labels,
        "ruleSelector": labels,
        "securityContext": _RESTRICTED,
        "resources": {"requests": {"cpu": "50m", "memory": "256Mi"}},
    }
    role = {"apiGroup": rbac, "kind": "Role", "name": name}
    subject = {"kind": "ServiceAccount", "name": name}
    return [
        _object("v1", "ServiceAccount", name),
        _object(f"{rbac}/v1", "Role", name, rules=rules),
        _object(f"{rbac}/v1", "RoleBinding", name, roleRef=role, subjects=[subject]),
        _object(f"{_GROUP}/v1", "Prometheus", "test", spec=spec),
    ]


def _object(version: str, kind: str, name: str, **fields: object) -> Json:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **fields}
