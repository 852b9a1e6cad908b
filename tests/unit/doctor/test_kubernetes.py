"""How the doctor judges a cluster's answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.findings import problems
from tools.doctor.cluster import Kubectl
from tools.doctor.cluster import examine as examine_cluster
from tools.doctor.findings import Level
from tools.doctor.kubernetes import dashboards, endpoints, mismatches, pods, selection, that_select

Json = dict[str, Any]

NAMESPACES = [{"metadata": {"name": "ml-monitoring", "labels": {"team": "loans"}}}]
# As kube-prometheus-stack makes it.
CHARTS: Json = {
    "metadata": {"name": "prometheus-stack-kube-prom-prometheus", "namespace": "monitoring"},
    "spec": {
        "serviceMonitorSelector": {"matchLabels": {"release": "prometheus-stack"}},
        "serviceMonitorNamespaceSelector": {},
        "ruleSelector": {"matchLabels": {"release": "prometheus-stack"}},
        "ruleNamespaceSelector": {},
    },
}


def custom(kind: str = "ServiceMonitor", **labels: str) -> Json:
    """Return a monitor or a rule with some labels."""
    return {
        "kind": kind,
        "metadata": {"name": "model", "namespace": "ml-monitoring", "labels": labels},
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": "model"}},
            "endpoints": [{"port": "metrics"}],
        },
    }


BOTH = [custom(release="prometheus-stack"), custom("PrometheusRule", release="prometheus-stack")]


def test_what_is_selected_is_one_line() -> None:
    """A monitor and a rule with the release's label."""
    assert problems(selection([CHARTS], BOTH, NAMESPACES)) == []


def test_the_missing_label_is_named() -> None:
    """The operator ignores it silently; the doctor names the label it wants."""
    found = problems(selection([CHARTS], [custom(release="other"), BOTH[1]], NAMESPACES))

    who = "Prometheus monitoring/prometheus-stack-kube-prom-prometheus"
    reason = f"{who} wants the label release=prometheus-stack"
    assert found == [f"ServiceMonitor model is ignored: {reason}"]


@pytest.mark.parametrize(
    ("namespace_selector", "reason"),
    [
        (None, "looks into its own namespace only"),
        ({"matchLabels": {"team": "beer"}}, "wants namespaces labelled team=beer"),
        ({"matchLabels": {"team": "loans"}}, ""),
    ],
    ids=["own", "labelled", "ours"],
)
def test_namespaces_count_as_well(namespace_selector: Json | None, reason: str) -> None:
    """None means the operator's own namespace, {} means all of them."""
    spec = {**CHARTS["spec"], "serviceMonitorNamespaceSelector": namespace_selector}

    found = problems(selection([{**CHARTS, "spec": spec}], BOTH, NAMESPACES))

    assert [reason in text for text in found] == ([True] if reason else [])


def test_one_prometheus_of_several_is_enough() -> None:
    """And only that one is asked for its targets."""
    other: Json = {"metadata": {"name": "infra", "namespace": "infra"}, "spec": {}}

    assert problems(selection([other, CHARTS], BOTH, NAMESPACES)) == []
    assert that_select([other, CHARTS], BOTH, NAMESPACES) == [CHARTS]


def test_nothing_to_select_is_a_problem() -> None:
    """Without Prometheus, or without rules, nothing is monitored."""
    assert problems(selection([], BOTH, NAMESPACES)) == ["there is no Prometheus in this cluster"]
    assert problems(selection([CHARTS], BOTH[:1], NAMESPACES)) == [
        "there is no PrometheusRule of ours"
    ]


@pytest.mark.parametrize(
    ("selector", "missing"),
    [
        (None, ["(it selects nothing)"]),
        ({}, []),
        ({"matchLabels": {"a": "1", "b": "2"}}, ["b=2"]),
        ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1", "3"]}]}, []),
        (
            {"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["1"]}]},
            ["a NotIn 1"],
        ),
        ({"matchExpressions": [{"key": "c", "operator": "Exists"}]}, ["c Exists"]),
        ({"matchExpressions": [{"key": "c", "operator": "DoesNotExist"}]}, []),
    ],
)
def test_label_selectors_are_read_as_kubernetes_does(
    selector: Json | None, missing: list[str]
) -> None:
    """All terms must hold; none at all holds for everything."""
    assert mismatches(selector, {"a": "1"}) == missing


def service(**ports: int) -> Json:
    """Return the model's Service."""
    return {
        "metadata": {"name": "model", "labels": {"app.kubernetes.io/name": "model"}},
        "spec": {"ports": [{"name": name, "port": port} for name, port in ports.items()]},
    }


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        ([service(http=8000, metrics=8001)], []),
        ([service(http=8000)], ["ServiceMonitor model finds no port metrics"]),
        ([], ["ServiceMonitor model finds no Service"]),
    ],
    ids=["healthy", "no port", "no service"],
)
def test_a_monitor_needs_a_service_with_its_port(services: list[Json], expected: list[str]) -> None:
    """By the name of the port, which a typing error misses."""
    assert problems(endpoints(BOTH[:1], services)) == expected


def pod(phase: str = "Running", ready: str = "True", **waiting: str) -> Json:
    """Return a pod, whose one container waits for a reason or runs."""
    state = {"waiting": waiting} if waiting else {"running": {}}
    return {
        "metadata": {"name": "model-1", "namespace": "ml-monitoring"},
        "status": {
            "phase": phase,
            "conditions": [
                {"type": "Ready", "status": ready, "message": "containers: [model]"},
                {"type": "PodScheduled", "status": "True"},
            ],
            "containerStatuses": [{"name": "model", "state": state}],
        },
    }


def test_pods_that_are_done_need_not_be_ready() -> None:
    """The Job that makes up the key has ended, which is healthy."""
    assert problems(pods([pod(), pod("Succeeded", "False")])) == []


def test_a_missing_key_is_explained() -> None:
    """The pods wait for it, and the remedy makes it."""
    waiting = pod(
        ready="False",
        reason="CreateContainerConfigError",
        message='secret "model-secrets" not found',
    )

    (finding,) = pods([waiting])

    assert finding.text.endswith('CreateContainerConfigError secret "model-secrets" not found')
    assert "kubectl create secret generic model-secrets -n ml-monitoring" in finding.remedy


def test_an_image_that_is_not_there_is_explained() -> None:
    """By the task that loads it."""
    (finding,) = pods([pod(ready="False", reason="ImagePullBackOff", message="Back-off pulling")])

    assert "`./task k8s:images`" in finding.remedy


def test_a_pod_that_is_not_ready_is_named() -> None:
    """Even where its container runs."""
    assert problems(pods([pod(ready="False")])) == ["model-1 is not ready: containers: [model]"]


def test_no_pods_are_no_health() -> None:
    """An empty namespace is not a healthy one."""
    assert problems(pods([])) == ["there are none"]


def test_a_dashboard_that_the_sidecar_lacks_is_named() -> None:
    """With the ConfigMap that holds it."""
    configmaps = [
        {
            "metadata": {"name": f"grafana-dashboard-{name}", "labels": {"grafana_dashboard": "1"}},
            "data": {f"ml-{name}.json": "{}"},
        }
        for name in ("model", "service")
    ]
    files = ["/tmp/dashboards/ML monitoring/ml-model.json"]  # noqa: S108 the sidecar's

    assert problems(dashboards(configmaps, files)) == [
        "ml-service.json of ConfigMap grafana-dashboard-service is not in Grafana's sidecar"
    ]
    assert problems(dashboards([], files)) == ["no ConfigMap has the label grafana_dashboard=1"]


@pytest.fixture(name="answers")
def _answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a kubectl on PATH that answers with files: what it is asked for is their name."""
    script = tmp_path / "kubectl"
    script.write_text(
        "#!/bin/sh\n"
        f'cd "{tmp_path}"\n'
        "for word; do case $word in *proxy/api/v1/*) word=${word##*/api/v1/};; esac\n"
        '[ -f "answer-$word" ] && exec cat "answer-$word"; done\n'
        'echo "error: the server doesn\'t have a resource type \\"$7\\"" >&2; exit 1\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path


def answer(directory: Path, to: str, items: list[Json]) -> None:
    """Have kubectl answer."""
    (directory / f"answer-{to}").write_text(json.dumps({"items": items}))


def test_a_cluster_is_examined_from_pods_to_dashboards(answers: Path) -> None:
    """What the API server knows is judged, and Prometheus asked through it."""
    suffix = "monitoring.coreos.com"
    answer(answers, f"prometheuses.{suffix}", [CHARTS])
    answer(answers, f"servicemonitors.{suffix}", BOTH[:1])
    answer(answers, f"prometheusrules.{suffix}", BOTH[1:])
    answer(answers, "namespaces", NAMESPACES)
    answer(answers, "pods", [pod()])
    answer(answers, "services", [service(http=8000)])

    found = list(examine_cluster(Kubectl(), "ml-monitoring", answers))

    assert [(each.subject, each.level) for each in found] == [
        ("pods", Level.OK),
        ("selection", Level.OK),
        ("endpoints", Level.PROBLEM),
        ("dashboards", Level.UNKNOWN),
        ("prometheus", Level.PROBLEM),
    ]


def test_a_cluster_without_the_operator_is_one_finding(answers: Path) -> None:
    """With the task that installs it."""
    (finding,) = examine_cluster(Kubectl(), "ml-monitoring", answers)

    assert finding.subject == "cluster"
    assert finding.remedy == "the operator is not there: `./task k8s:monitoring`"


def test_a_machine_without_kubectl_is_one_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With where to get it."""
    monkeypatch.setenv("PATH", str(tmp_path))

    (finding,) = examine_cluster(Kubectl(), "ml-monitoring", tmp_path)

    assert (finding.text, finding.remedy) == (
        "kubectl is not installed",
        "https://kubernetes.io/docs/tasks/tools",
    )
