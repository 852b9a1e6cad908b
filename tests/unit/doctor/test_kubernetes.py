"""How the doctor judges a cluster's answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.findings import problems
from tools import ROOT
from tools.doctor.cluster import Kubectl
from tools.doctor.cluster import examine as examine_cluster
from tools.doctor.findings import Level
from tools.doctor.kubernetes import autoscalers, dashboards, endpoints, pods, storage
from tools.doctor.selection import label_changes, mismatches, selection, that_select

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
    found = selection([CHARTS], [custom(release="other"), BOTH[1]], NAMESPACES)

    who = "Prometheus monitoring/prometheus-stack-kube-prom-prometheus"
    reason = f"{who} wants the label release=prometheus-stack"
    assert problems(found) == [f"ServiceMonitor model is ignored: {reason}"]
    assert found[0].remedy.endswith(
        "kubectl label --overwrite -n ml-monitoring servicemonitor model release=prometheus-stack"
    )


def test_the_remedy_labels_the_namespace_too() -> None:
    """Of several Prometheuses, that which needs the fewest changes is chosen."""
    beer = {"matchLabels": {"team": "beer"}}
    spec = {**CHARTS["spec"], "serviceMonitorNamespaceSelector": beer}
    infra: Json = {"metadata": {"name": "infra", "namespace": "infra"}, "spec": {}}

    (finding,) = selection([infra, {**CHARTS, "spec": spec}], BOTH, NAMESPACES)

    assert finding.remedy.endswith("kubectl label --overwrite namespace ml-monitoring team=beer")


@pytest.mark.parametrize(
    ("term", "change"),
    [
        ({"key": "a", "operator": "In", "values": ["x", "y"]}, "a=x"),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, "a-"),
        ({"key": "b", "operator": "Exists"}, "b=true"),
        ({"key": "a", "operator": "DoesNotExist"}, "a-"),
    ],
)
def test_the_label_change_fulfils_the_term(term: Json, change: str) -> None:
    """A label is set, replaced or removed, as `kubectl label` has it."""
    assert label_changes({"matchExpressions": [term]}, {"a": "1"}) == [change]


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


def test_missing_credentials_of_fiddler_are_explained() -> None:
    """The remedy works with every overlay, and not on minikube only."""
    message = 'secret "fiddler-secrets" not found'
    (finding,) = pods([pod(ready="False", reason="CreateContainerConfigError", message=message)])

    assert "kubectl create secret generic fiddler-secrets -n ml-monitoring" in finding.remedy


@pytest.mark.parametrize("reason", ["ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull"])
def test_an_image_that_is_not_there_is_explained(reason: str) -> None:
    """By the task that loads it."""
    (finding,) = pods([pod(ready="False", reason=reason, message="Back-off pulling")])

    assert "`./task k8s:images`" in finding.remedy


def autoscaler(**condition: str) -> Json:
    """Return a HorizontalPodAutoscaler with a condition, by default one that holds."""
    healthy = {"type": "ScalingActive", "status": "True"}
    return {
        "metadata": {"name": "model"},
        "status": {"conditions": [{"type": "AbleToScale", "status": "True"}, healthy | condition]},
    }


def test_an_autoscaler_without_its_metric_is_explained() -> None:
    """Kubernetes says why it does not scale; the remedy is what provides the metric."""
    message = "unable to get metric http_requests_per_second"
    (finding,) = autoscalers([autoscaler(status="False", message=message)])

    assert finding.text == f"model does not scale: {message}"
    assert "prometheus-adapter.yaml" in finding.remedy


@pytest.mark.parametrize("answer", [[], [autoscaler()]], ids=["none", "active"])
def test_an_autoscaler_that_scales_is_no_problem(answer: list[Json]) -> None:
    """And neither is a cluster without one."""
    assert problems(autoscalers(answer)) == []


@pytest.mark.parametrize(
    ("storage_spec", "lost"),
    [
        ({}, True),
        ({"emptyDir": {"sizeLimit": "10Gi"}}, True),
        ({"volumeClaimTemplate": {"spec": {}}}, False),
    ],
    ids=["none", "emptyDir", "volume"],
)
def test_a_history_without_a_volume_is_a_problem(storage_spec: Json, *, lost: bool) -> None:
    """An upgrade of the chart would end every window of a day."""
    found = storage([{**CHARTS, "spec": {"storage": storage_spec}}])

    assert bool(problems(found)) is lost


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
        "for word; do case $word in *proxy/api/v[12]/*) word=${word##*/api/v?/};; esac\n"
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
    answer(answers, "namespace", [])
    answer(answers, "horizontalpodautoscalers.autoscaling", [autoscaler()])
    answer(answers, f"prometheuses.{suffix}", [CHARTS])
    answer(answers, f"servicemonitors.{suffix}", BOTH[:1])
    answer(answers, f"prometheusrules.{suffix}", BOTH[1:])
    answer(answers, "namespaces", NAMESPACES)
    answer(answers, "pods", [pod()])
    answer(answers, "services", [service(http=8000)])

    found = list(examine_cluster(Kubectl(), "ml-monitoring", answers))

    assert [(each.subject, each.level) for each in found] == [
        ("pods", Level.OK),
        ("autoscaler", Level.OK),
        ("dashboards", Level.UNKNOWN),
        ("selection", Level.OK),
        ("endpoints", Level.PROBLEM),
        ("storage", Level.PROBLEM),
        ("prometheus", Level.PROBLEM),
        ("receivers", Level.UNKNOWN),
    ]


@pytest.mark.parametrize(
    ("monitors", "level"),
    [(["model"], Level.PROBLEM), (["model", "locust"], Level.UNKNOWN)],
    ids=["real traffic", "simulated traffic"],
)
def test_somebody_must_hear_of_real_traffic(
    answers: Path, monitors: list[str], level: Level
) -> None:
    """Alertmanager is asked through the API server; simulated traffic need not wake anybody."""
    suffix = "monitoring.coreos.com"
    found = [{**BOTH[0], "metadata": BOTH[0]["metadata"] | {"name": name}} for name in monitors]
    for name in ("namespace", "horizontalpodautoscalers.autoscaling", "pods", "services"):
        answer(answers, name, [])
    answer(answers, f"prometheuses.{suffix}", [CHARTS])
    answer(answers, f"servicemonitors.{suffix}", found)
    answer(answers, f"prometheusrules.{suffix}", BOTH[1:])
    answer(answers, "namespaces", NAMESPACES)
    config = (ROOT / "prometheus/alertmanager.yml").read_text()
    (answers / "answer-status").write_text(json.dumps({"config": {"original": config}}))

    levels = {
        each.subject: each.level for each in examine_cluster(Kubectl(), "ml-monitoring", answers)
    }

    assert levels["receivers"] is level


def test_a_cluster_without_the_operator_is_examined_as_far_as_possible(answers: Path) -> None:
    """One finding names the task that installs it; the pods are judged all the same."""
    answer(answers, "namespace", [])
    answer(answers, "horizontalpodautoscalers.autoscaling", [])
    answer(answers, "pods", [pod(ready="False", reason="ErrImageNeverPull")])

    found = list(examine_cluster(Kubectl(), "ml-monitoring", answers))

    assert problems(found) == [
        "model-1: model waits: ErrImageNeverPull",
        'error: the server doesn\'t have a resource type "--all-namespaces"',
    ]
    assert found[-1].remedy == "the operator is not there: `./task k8s:monitoring`"


def test_a_cluster_that_does_not_answer_is_one_finding(answers: Path) -> None:
    """The doctor does not repeat one reason for each thing that it would have asked."""
    found = list(examine_cluster(Kubectl(), "ml-monitoring", answers))

    assert [each.subject for each in found] == ["cluster"]


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
