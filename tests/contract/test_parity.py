"""The Compose stack and the Kubernetes manifests agree, and every disagreement is detected."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.k8s import copy_checkout, prepared
from tests.support.parity import differences
from tools import version
from tools.stack.settings import PORTS


class Mistake(NamedTuple):
    """An edit in one place that is missing in the other."""

    file: str
    old: str
    new: str
    reported_as: str


VERSION = version.read()
PORT, METRICS_PORT = PORTS["MODEL_PORT"], PORTS["MODEL_METRICS_PORT"]

MISTAKES = {
    "port in compose": Mistake("compose.yaml", f":{PORT}\n", ":8010\n", "model: ports"),
    "port in Kubernetes": Mistake(
        "k8s/base/model/deployment.yaml",
        f"containerPort: {METRICS_PORT}",
        "containerPort: 8101",
        "ports",
    ),
    "metrics port of the Service": Mistake(
        "k8s/base/model/service.yaml", f"port: {METRICS_PORT}", "port: 8101", "targets"
    ),
    "rule": Mistake("prometheus/rules/service.yml", "for: 1m", "for: 2m", "service_alerts"),
    "dashboard": Mistake(
        "grafana/kustomization.yaml", "dashboards/drift.json", "dashboards/service.json", "ml-"
    ),
    "tag in compose": Mistake(
        "compose.yaml",
        f"/model:${{IMAGE_TAG:-{VERSION}}}",
        "/model:${IMAGE_TAG:-9.9.9}",
        "model: image",
    ),
    "tag in Kubernetes": Mistake(
        "k8s/components/locust/kustomization.yaml",
        f"newTag: {VERSION}",
        "newTag: 9.9.9",
        "worker: im",
    ),
    "version of the project": Mistake(
        "pyproject.toml", f'version = "{VERSION}"', 'version = "9.9.9"', "the project's version"
    ),
    "health path": Mistake(
        "k8s/base/model/deployment.yaml",
        "readinessProbe:\n            httpGet: {path: /readyz",
        "readinessProbe:\n            httpGet: {path: /healthz",
        "model: health",
    ),
    "user": Mistake(
        "k8s/components/locust/deployment-worker.yaml", "runAsUser: 10001", "runAsUser: 1000", "us"
    ),
    "read-only root": Mistake(
        "k8s/base/model/deployment.yaml", "Filesystem: true", "Filesystem: false", "read-only"
    ),
    "memory": Mistake("compose.yaml", "mem_limit: 512m", "mem_limit: 256m", "memory"),
    "tmpfs": Mistake("compose.yaml", "/run/model-metrics:uid", "/run/metrics:uid", "in-memory"),
    "environment": Mistake("compose.yaml", "MODEL_PREDICTION_KEYS:", "MODEL_KEYS:", "environment"),
    "interval": Mistake(
        "k8s/base/model/servicemonitor.yaml", "interval: 15s", "interval: 30s", "interval"
    ),
    "the chart's interval": Mistake(
        "k8s/overlays/minikube/kube-prometheus-stack.yaml",
        "evaluationInterval: 15s",
        "evaluationInterval: 30s",
        "evaluationInterval",
    ),
    "job": Mistake("prometheus/targets/model.yml", "job: model", "job: loans", "targets"),
    "the chart's job": Mistake(
        "k8s/overlays/minikube/kube-prometheus-stack.yaml",
        "replacement: grafana",
        "replacement: dashboards",
        "renamed",
    ),
    "jobLabel": Mistake(
        "k8s/base/model/servicemonitor.yaml",
        "kubernetes.io/name #",
        "kubernetes.io/component #",
        "targets",
    ),
    "grace period": Mistake("compose.yaml", "period: 50s", "period: 550s", "grace"),
    "retention": Mistake("compose.yaml", "retention.time=15d", "retention.time=7d", "retention"),
}


def test_the_stack_is_the_same_in_containers_and_on_kubernetes() -> None:
    """There is no difference in images, ports, probes, limits, settings, jobs or dashboards."""
    assert differences(prepared()) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_a_change_on_one_side_only_is_reported(name: str, tmp_path: Path) -> None:
    """Editing one line in one place causes a difference that names it."""
    mistake = MISTAKES[name]
    copy_checkout(tmp_path)
    file = tmp_path / mistake.file
    text = file.read_text()
    assert mistake.old in text
    file.write_text(text.replace(mistake.old, mistake.new, 1))

    found = set(differences(tmp_path)) - set(differences(prepared()))

    assert any(mistake.reported_as in each for each in found), found
