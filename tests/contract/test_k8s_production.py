"""The overlay for production: scale, registry, and who may reach the model."""

from typing import Any

import yaml

from tests.support.k8s import (
    Objects,
    build,
    every_container,
    named,
    of_kind,
    pod_spec,
    ports,
    selected,
    title,
    workloads,
)
from tests.support.settings_files import bare_settings
from tools import ROOT
from tools.stack.settings import PORTS


def production() -> Objects:
    """Return the objects of the overlay."""
    return build("overlays/production")


def namespace_of(source: dict[str, Any]) -> str:
    """Return the namespace of a policy's source."""
    return str(source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])


def test_production_has_no_simulated_traffic() -> None:
    """The only workload is the model: neither locust nor the Job of the key is included."""
    assert [title(each) for each in workloads(production())] == ["Deployment/model"]


def addresses() -> dict[str, str]:
    """Return the addresses that a user sets."""
    return bare_settings(ROOT / "k8s/overlays/production/addresses.env")


def test_every_image_comes_from_the_registry_of_addresses_env() -> None:
    """The prefix of every image is IMAGE_PREFIX, and its file is no ConfigMap of the cluster."""
    images = [container["image"] for _, container in every_container(production())]

    assert images
    assert all(image.startswith(f"{addresses()['IMAGE_PREFIX']}/") for image in images)
    assert not [
        each
        for each in of_kind(production(), "ConfigMap")
        if each["metadata"]["name"].startswith("addresses")
    ]


def test_every_alert_links_to_the_runbooks_of_addresses_env() -> None:
    """The page is RUNBOOKS_URL, and the anchor that of the alert, as in the plain rules."""
    rule = named(production(), "PrometheusRule", "model")
    alerts = [
        each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each
    ]

    assert alerts
    for alert in alerts:
        link = f"{addresses()['RUNBOOKS_URL']}#{alert['alert'].lower()}"
        assert alert["annotations"]["runbook_url"] == link


def test_the_autoscaler_controls_the_replicas() -> None:
    """It keeps at least three, scales by the last minute's rate, and scales down slowly."""
    hpa = named(production(), "HorizontalPodAutoscaler", "model")["spec"]
    deployment = named(production(), "Deployment", hpa["scaleTargetRef"]["name"])
    adapter = yaml.safe_load((ROOT / "k8s/overlays/production/prometheus-adapter.yaml").read_text())
    defined = [rule["name"]["as"] for rule in adapter["rules"]["custom"]]

    assert all("[1m]" in rule["metricsQuery"] for rule in adapter["rules"]["custom"])
    assert "replicas" not in deployment["spec"]
    assert hpa["minReplicas"] >= 3
    assert [metric["pods"]["metric"]["name"] for metric in hpa["metrics"]] == defined
    assert (
        hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
        > hpa["behavior"]["scaleUp"]["stabilizationWindowSeconds"]
    )


def test_selectors_match_the_models_pods() -> None:
    """Disruption budget, spread constraints and network policy select the model's pods."""
    model = named(production(), "Deployment", "model")
    budget = named(production(), "PodDisruptionBudget", "model")["spec"]
    selectors = [
        budget["selector"],
        named(production(), "NetworkPolicy", "model")["spec"]["podSelector"],
        *(each["labelSelector"] for each in pod_spec(model)["topologySpreadConstraints"]),
    ]

    assert budget["maxUnavailable"] == 1
    for selector in selectors:
        assert selected(selector["matchLabels"], [model]) == [model]


def test_traffic_is_denied_unless_allowed() -> None:
    """The default policy denies ingress and egress to every pod."""
    policy = named(production(), "NetworkPolicy", "default-deny")["spec"]

    assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_pods_can_ask_either_dns_of_the_cluster() -> None:
    """The pods of kube-dns, and the address on which NodeLocal DNSCache listens."""
    (rule,) = named(production(), "NetworkPolicy", "dns")["spec"]["egress"]

    assert {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
    assert [each for each in rule["to"] if "podSelector" in each]
    assert rule["ports"] == [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]


def test_only_prometheus_can_reach_the_metrics() -> None:
    """The policy allows the API to the ingress, and metrics to the namespace monitoring."""
    listening = ports(named(production(), "Deployment", "model"))
    allowed = {
        port["port"]: {namespace_of(source) for source in rule["from"]}
        for rule in named(production(), "NetworkPolicy", "model")["spec"]["ingress"]
        for port in rule["ports"]
    }

    assert allowed == {"http": {"ingress"}, "metrics": {"monitoring"}}
    assert set(allowed) <= set(listening)


def test_the_ingress_cannot_reach_the_metrics() -> None:
    """The ingress routes two paths to the port of the API."""
    rules = named(production(), "Ingress", "model")["spec"]["rules"]
    paths = [path for rule in rules for path in rule["http"]["paths"]]
    service = named(production(), "Service", "model")
    numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}

    assert {"/predict", "/feedback"} == {path["path"] for path in paths}
    for path in paths:
        backend = path["backend"]["service"]
        assert backend == {"name": "model", "port": {"name": "http"}}
        assert numbers[backend["port"]["name"]] == PORTS["MODEL_PORT"]
