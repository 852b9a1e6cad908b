"""What is written twice agrees, and a change on one side only is noticed."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.k8s import copy_checkout, prepared
from tests.support.parity import differences


class Mistake(NamedTuple):
    """A change that somebody makes in one place and forgets in the other."""

    file: str
    old: str
    new: str
    noticed_as: str


MISTAKES = {
    "port in compose": Mistake("compose.yaml", ":8000\n", ":8010\n", "model: ports"),
    "port in Kubernetes": Mistake(
        "k8s/base/model/deployment.yaml", "containerPort: 8001", "containerPort: 8101", "ports"
    ),
    "metrics port of the Service": Mistake(
        "k8s/base/model/service.yaml", "port: 8001", "port: 8101", "targets"
    ),
    "rule": Mistake("prometheus/rules/service.yml", "for: 1m", "for: 2m", "service_alerts"),
    "dashboard": Mistake(
        "grafana/kustomization.yaml", "dashboards/model.json", "dashboards/service.json", "ml-"
    ),
    "tag in compose": Mistake(
        "compose.yaml", "/model:${IMAGE_TAG:-0.1.0}", "/model:${IMAGE_TAG:-0.2.0}", "model: image"
    ),
    "tag in Kubernetes": Mistake(
        "k8s/components/locust/kustomization.yaml", "newTag: 0.1.0", "newTag: 0.0.9", "worker: im"
    ),
    "version of the project": Mistake(
        "pyproject.toml", 'version = "0.1.0"', 'version = "0.2.0"', "the project's version"
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
    "grace period": Mistake("compose.yaml", "period: 40s", "period: 150s", "grace"),
    "retention": Mistake("compose.yaml", "retention.time=15d", "retention.time=7d", "retention"),
}


def test_the_stack_is_the_same_in_containers_and_on_kubernetes() -> None:
    """Images, ports, probes, users, limits, settings, jobs, rules and dashboards agree."""
    assert differences(prepared()) == []


@pytest.mark.parametrize("name", MISTAKES)
def test_a_change_on_one_side_only_is_noticed(name: str, tmp_path: Path) -> None:
    """One edited line in one place gives a difference that names it."""
    mistake = MISTAKES[name]
    copy_checkout(tmp_path)
    file = tmp_path / mistake.file
    text = file.read_text()
    assert mistake.old in text
    file.write_text(text.replace(mistake.old, mistake.new, 1))

    found = set(differences(tmp_path)) - set(differences(prepared()))

    assert any(mistake.noticed_as in each for each in found), found
