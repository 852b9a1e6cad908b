"""The manifests are valid, safe, and point at each other."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.support.k8s import (
    OVERLAYS,
    WITH_FIDDLER,
    Json,
    build,
    containers,
    custom_problems,
    every_container,
    labels,
    named,
    of_kind,
    pod_labels,
    pod_spec,
    ports,
    schema_problems,
    selected,
    title,
    workloads,
)
from tools import ROOT

# The oldest that knows every field we use, and the newest there are schemas of.
VERSIONS = ("1.31", "1.37")
CUSTOM = "monitoring.coreos.com"
APPLIED = (*OVERLAYS[1:], *WITH_FIDDLER)

overlays = pytest.mark.parametrize("overlay", [*OVERLAYS, *WITH_FIDDLER])
applied = pytest.mark.parametrize("overlay", APPLIED)


@overlays
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schemas_of_kubernetes(overlay: str, version: str) -> None:
    """No field is unknown, none has a wrong type, none is missing."""
    native = [each for each in build(overlay) if CUSTOM not in each["apiVersion"]]

    assert [problem for each in native for problem in schema_problems(each, version)] == []


@overlays
def test_every_custom_resource_fits_its_schema(overlay: str) -> None:
    """ServiceMonitors and PrometheusRules use the operator's fields and no others."""
    custom = [each for each in build(overlay) if CUSTOM in each["apiVersion"]]

    assert {"PrometheusRule", "ServiceMonitor"} == {each["kind"] for each in custom}
    assert [problem for each in custom for problem in custom_problems(each)] == []


@pytest.mark.parametrize(
    "broken",
    [
        {"replica": 2},
        {"replicas": "two"},
        {"template": {"spec": {"containers": [{"name": "a", "readinesProbe": {}}]}}},
    ],
    ids=["unknown field", "wrong type", "unknown field deep inside"],
)
def test_the_schema_check_refuses_what_kubernetes_would(broken: Json) -> None:
    """A misspelt field is not passed over, at whatever depth."""
    deployment = named(build("base"), "Deployment", "model")

    assert schema_problems({**deployment, "spec": {**deployment["spec"], **broken}}, VERSIONS[-1])


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("ServiceMonitor", {"joblabel": "app.kubernetes.io/name"}),
        ("ServiceMonitor", {"endpoints": [{"port": 8001}]}),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"alert": "A", "exp": "1"}]}]}),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"expr": "1"}]}]}),
    ],
    ids=["unknown field", "port by number", "misspelt expr", "neither record nor alert"],
)
def test_the_schema_check_refuses_what_the_operator_would(kind: str, broken: Json) -> None:
    """A misspelt field of a custom resource is not passed over."""
    valid = named(build("base"), kind, "model")

    assert custom_problems({**valid, "spec": {**valid["spec"], **broken}})


@overlays
def test_every_container_is_clean_under_the_restricted_profile(overlay: str) -> None:
    """Nothing needs more than Pod Security's strictest level gives, and the root is read-only."""
    checked = list(every_container(build(overlay)))

    assert checked
    for workload, container in checked:
        pod, own = pod_spec(workload)["securityContext"], container["securityContext"]
        assert pod["runAsNonRoot"] is True
        assert pod["runAsUser"] > 0
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert own == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }


@overlays
def test_every_pod_keeps_to_itself(overlay: str) -> None:
    """No host namespace or path, no service links, and a token for the one Job that needs it."""
    for workload in workloads(build(overlay)):
        spec = pod_spec(workload)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])
        assert spec["enableServiceLinks"] is False, "a Service `model` would set MODEL_PORT"
        assert spec["automountServiceAccountToken"] is (title(workload) == "Job/prediction-key")


@overlays
def test_every_container_has_requests_and_limits(overlay: str) -> None:
    """The scheduler knows what each needs, and the node what each may take."""
    for workload, container in every_container(build(overlay)):
        given = {key: set(value) for key, value in container["resources"].items()}
        assert given == {"limits": {"cpu", "memory"}, "requests": {"cpu", "memory"}}, title(
            workload
        )


@overlays
def test_liveness_is_not_readiness(overlay: str) -> None:
    """A pod that is not ready gets no traffic; only one that is not alive is killed for it."""
    model = containers(named(build(overlay), "Deployment", "model"))[-1]
    asked = {
        probe: model[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")
    }

    assert asked == {
        "startup": {"path": "/readyz", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
        "liveness": {"path": "/healthz", "port": "http"},
    }


@overlays
def test_an_update_of_the_model_loses_no_request(overlay: str) -> None:
    """The old pod goes after the new one is ready, once scraped again, with time to finish."""
    deployment = named(build(overlay), "Deployment", "model")
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    told_after = containers(deployment)[-1]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod_spec(deployment)["terminationGracePeriodSeconds"]

    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    assert told_after >= 5 + scrape_interval()
    assert grace >= told_after + graceful_timeout() + 5


def scrape_interval() -> int:
    """Return the seconds between two scrapes."""
    config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    return int(config["global"]["scrape_interval"].removesuffix("s"))


def graceful_timeout() -> int:
    """Return the seconds that the service gives to requests in flight, in Kubernetes."""
    given = named_settings("model").get("MODEL_GRACEFUL_TIMEOUT")
    if given:
        return int(given)
    source = (ROOT / "services/model/serving/settings.py").read_text()
    found = re.search(r"graceful_timeout: .*?\] = (\d+)", source, re.DOTALL)
    assert found
    return int(found[1])


def named_settings(service: str) -> dict[str, str]:
    """Return a service's settings of the base."""
    maps = of_kind(build("base"), "ConfigMap")
    return next(
        each["data"] for each in maps if each["metadata"]["name"].startswith(f"{service}-settings-")
    )


@overlays
def test_every_service_selects_pods_that_listen(overlay: str) -> None:
    """A Service's selector matches exactly one workload, and its ports are that one's."""
    objects = build(overlay)
    for service in of_kind(objects, "Service"):
        found = selected(service["spec"]["selector"], workloads(objects))
        assert len(found) == 1, title(service)
        listening = ports(found[0])
        for port in service["spec"]["ports"]:
            assert listening[port["targetPort"]] == port["port"], title(service)


@overlays
def test_every_workload_selects_its_own_pods(overlay: str) -> None:
    """A Deployment's selector matches the pods it makes, and no other Deployment's."""
    deployments = of_kind(build(overlay), "Deployment")
    for deployment in deployments:
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selected(selector, deployments) == [deployment]


@overlays
def test_every_object_says_what_it_belongs_to(overlay: str) -> None:
    """Pods carry a name and what they are part of, by Kubernetes' own label names."""
    objects = build(overlay)

    assert {"ml-monitoring"} == {labels(each)["app.kubernetes.io/part-of"] for each in objects}
    for workload in workloads(objects):
        assert {"app.kubernetes.io/name", "app.kubernetes.io/part-of"} <= set(pod_labels(workload))


@overlays
def test_everything_is_in_the_namespace_which_enforces_the_restricted_profile(overlay: str) -> None:
    """One namespace, made here, and Pod Security's strictest level on it."""
    objects = build(overlay)
    (namespace,) = of_kind(objects, "Namespace")

    assert labels(namespace)["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {namespace["metadata"]["name"]} == {
        each["metadata"]["namespace"] for each in objects if each is not namespace
    }


@overlays
def test_every_service_monitor_names_the_job_of_the_contract(overlay: str) -> None:
    """`job` is the label that jobLabel names, on the one Service that is selected."""
    objects = build(overlay)
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        found = [
            service
            for service in of_kind(objects, "Service")
            if spec["selector"]["matchLabels"].items() <= labels(service).items()
        ]
        assert len(found) == 1, title(monitor)
        assert spec["serviceDiscoveryRole"] == "EndpointSlice", "a pod that ends is scraped still"
        assert labels(found[0])[spec["jobLabel"]] == monitor["metadata"]["name"]
        offered = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in spec["endpoints"]} <= offered


@applied
def test_the_operator_sees_what_is_for_it(overlay: str) -> None:
    """Monitors and rules carry the release label that kube-prometheus-stack selects by."""
    custom = [each for each in build(overlay) if CUSTOM in each["apiVersion"]]

    assert {"prometheus-stack"} == {labels(each)["release"] for each in custom}


@overlays
def test_nothing_secret_is_in_a_manifest(overlay: str) -> None:
    """No Secret, no ConfigMap key and no variable carries the value of a secret."""
    objects = build(overlay)
    secret = re.compile(r"KEYS?$|TOKEN|PASSWORD|SECRET|WEBHOOK", re.IGNORECASE)
    maps = {key for each in of_kind(objects, "ConfigMap") for key in each.get("data", {})}
    literal = {
        variable["name"]
        for _, container in every_container(objects)
        for variable in container.get("env", ())
        if "value" in variable
    }

    made = [each["metadata"]["name"] for each in of_kind(objects, "Secret")]
    assert made == (["fiddler-secrets"] if overlay == "overlays/minikube-fiddler" else [])
    assert sorted(name for name in maps | literal if secret.search(name)) == []


@overlays
def test_every_configmap_that_is_used_exists(overlay: str) -> None:
    """Names with a hash are rewritten where they are used."""
    objects = build(overlay)
    there = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}

    assert set(used_configmaps(overlay)) <= there


def used_configmaps(overlay: str) -> Iterator[str]:
    """Yield the ConfigMaps that pods read."""
    for workload, container in every_container(build(overlay)):
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]
        for volume in pod_spec(workload)["volumes"]:
            if "configMap" in volume:
                yield volume["configMap"]["name"]


def test_dashboards_reach_the_sidecar() -> None:
    """Each has the label it looks for, a stable name, and room below what `apply` can carry."""
    boards = [
        each for each in of_kind(build("base"), "ConfigMap") if "grafana_dashboard" in labels(each)
    ]

    assert boards
    for board in boards:
        assert labels(board)["grafana_dashboard"] == "1"
        assert not re.search(r"-[a-z0-9]{10}$", board["metadata"]["name"])
        # kubectl keeps what was applied in an annotation, which may have 256 KiB.
        assert sum(map(len, board["data"].values())) < 200 * 1024


def test_replicas_sign_with_the_same_key() -> None:
    """Without a key the base runs; what is applied waits for one instead of making up many."""
    assert key_reference("base") == {
        "name": "model-secrets",
        "key": "MODEL_PREDICTION_KEYS",
        "optional": True,
    }
    for overlay in APPLIED:
        assert key_reference(overlay)["optional"] is False, overlay


def key_reference(overlay: str) -> Json:
    """Return where the model's pods get the key of prediction ids."""
    model = containers(named(build(overlay), "Deployment", "model"))[-1]
    (variable,) = [each for each in model["env"] if each["name"] == "MODEL_PREDICTION_KEYS"]
    reference: Json = variable["valueFrom"]["secretKeyRef"]
    return reference


def test_the_key_is_made_by_an_account_that_can_do_nothing_else() -> None:
    """It may create a Secret in its own namespace, and neither read nor change any."""
    (role,) = of_kind(build("overlays/minikube"), "Role")

    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]


class TestProduction:
    """overlays/production differs in substance."""

    objects = property(lambda _: build("overlays/production"))

    def test_it_simulates_no_traffic(self) -> None:
        """Locust is not there, nor is the Job that makes up a key."""
        assert [title(each) for each in workloads(self.objects)] == ["Deployment/model"]

    def test_the_registry_is_written_once(self) -> None:
        """Every image comes from the registry of registry.env."""
        lines = (ROOT / "k8s/overlays/production/registry.env").read_text().splitlines()
        prefix = next(line.removeprefix("IMAGE_PREFIX=") for line in lines if "=" in line)
        images = [container["image"] for _, container in every_container(self.objects)]

        assert images
        assert all(image.startswith(f"{prefix}/") for image in images)
        assert not [
            each
            for each in of_kind(self.objects, "ConfigMap")
            if each["metadata"]["name"].startswith("registry")
        ]

    def test_the_autoscaler_owns_the_replicas(self) -> None:
        """At least three, by a rate that the adapter's values define, and slowly down."""
        hpa = named(self.objects, "HorizontalPodAutoscaler", "model")["spec"]
        deployment = named(self.objects, "Deployment", hpa["scaleTargetRef"]["name"])
        adapter = yaml.safe_load(
            (ROOT / "k8s/overlays/production/prometheus-adapter.yaml").read_text()
        )
        defined = [rule["name"]["as"] for rule in adapter["rules"]["custom"]]

        assert "replicas" not in deployment["spec"]
        assert hpa["minReplicas"] >= 3
        assert [metric["pods"]["metric"]["name"] for metric in hpa["metrics"]] == defined
        assert (
            hpa["behavior"]["scaleDown"]["stabilizationWindowSeconds"]
            > hpa["behavior"]["scaleUp"]["stabilizationWindowSeconds"]
        )

    def test_selectors_match_the_models_pods(self) -> None:
        """Budget, spread and policy are about pods that exist."""
        model = named(self.objects, "Deployment", "model")
        budget = named(self.objects, "PodDisruptionBudget", "model")["spec"]
        selectors = [
            budget["selector"],
            named(self.objects, "NetworkPolicy", "model")["spec"]["podSelector"],
            *(each["labelSelector"] for each in pod_spec(model)["topologySpreadConstraints"]),
        ]

        assert budget["maxUnavailable"] == 1
        for selector in selectors:
            assert selected(selector["matchLabels"], [model]) == [model]

    def test_traffic_is_denied_unless_allowed(self) -> None:
        """An empty selector denies both directions to every pod."""
        policy = named(self.objects, "NetworkPolicy", "default-deny")["spec"]

        assert policy == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}

    def test_the_metrics_are_for_prometheus_alone(self) -> None:
        """Policies open ports that exist: the API to the ingress, metrics to monitoring."""
        listening = ports(named(self.objects, "Deployment", "model"))
        opened = {
            port["port"]: {namespace_of(source) for source in rule["from"]}
            for rule in named(self.objects, "NetworkPolicy", "model")["spec"]["ingress"]
            for port in rule["ports"]
        }

        assert opened == {"http": {"ingress"}, "metrics": {"monitoring"}}
        assert set(opened) <= set(listening)

    def test_the_ingress_cannot_reach_the_metrics(self) -> None:
        """It knows the API's port and two of its paths."""
        rules = named(self.objects, "Ingress", "model")["spec"]["rules"]
        paths = [path for rule in rules for path in rule["http"]["paths"]]
        service = named(self.objects, "Service", "model")
        numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}

        assert {"/predict", "/feedback"} == {path["path"] for path in paths}
        for path in paths:
            backend = path["backend"]["service"]
            assert backend == {"name": "model", "port": {"name": "http"}}
            assert numbers[backend["port"]["name"]] == 8000


def namespace_of(source: dict[str, Any]) -> str:
    """Return the namespace that a policy's source names."""
    return str(source["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"])
