"""The manifests are valid, secure and consistent with each other."""

import re
from collections.abc import Iterator

import pytest
import yaml

from serving.settings import Settings
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
from tools.stack.settings import PORTS

# The oldest version that has every field in use, and the newest whose schemas are available.
VERSIONS = ("1.31", "1.37")
CUSTOM = "monitoring.coreos.com"
APPLIED = (*OVERLAYS[1:], *WITH_FIDDLER)

overlays = pytest.mark.parametrize("overlay", [*OVERLAYS, *WITH_FIDDLER])
applied = pytest.mark.parametrize("overlay", APPLIED)


@overlays
@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_fits_the_schemas_of_kubernetes(overlay: str, version: str) -> None:
    """Every native object is valid under the oldest and the newest supported version."""
    native = [each for each in build(overlay) if CUSTOM not in each["apiVersion"]]

    assert [problem for each in native for problem in schema_problems(each, version)] == []


@overlays
def test_every_custom_resource_fits_its_schema(overlay: str) -> None:
    """Every ServiceMonitor and PrometheusRule is valid under the operator's schema."""
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
def test_the_schema_check_rejects_what_kubernetes_rejects(broken: Json) -> None:
    """A misspelt field is reported at any depth, and so is a wrong type."""
    deployment = named(build("base"), "Deployment", "model")

    assert schema_problems({**deployment, "spec": {**deployment["spec"], **broken}}, VERSIONS[-1])


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("ServiceMonitor", {"joblabel": "app.kubernetes.io/name"}),
        ("ServiceMonitor", {"endpoints": [{"port": PORTS["MODEL_METRICS_PORT"]}]}),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"alert": "A", "exp": "1"}]}]}),
        ("PrometheusRule", {"groups": [{"name": "a", "rules": [{"expr": "1"}]}]}),
    ],
    ids=["unknown field", "port by number", "misspelt expr", "neither record nor alert"],
)
def test_the_schema_check_rejects_what_the_operator_rejects(kind: str, broken: Json) -> None:
    """An invalid field of a custom resource is reported."""
    valid = named(build("base"), kind, "model")

    assert custom_problems({**valid, "spec": {**valid["spec"], **broken}})


@overlays
def test_every_container_satisfies_the_restricted_profile(overlay: str) -> None:
    """Every container meets Pod Security's restricted level and has a read-only root."""
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
def test_every_pod_is_isolated_from_its_host(overlay: str) -> None:
    """No pod uses a host namespace or path, and only one Job has a service account token."""
    for workload in workloads(build(overlay)):
        spec = pod_spec(workload)
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
        assert all("hostPath" not in volume for volume in spec["volumes"])
        assert spec["enableServiceLinks"] is False, "the Service `model` would set MODEL_PORT"
        assert spec["automountServiceAccountToken"] is (title(workload) == "Job/prediction-key")


@overlays
def test_every_container_has_requests_and_limits(overlay: str) -> None:
    """Every container has requests and limits for processor and memory."""
    for workload, container in every_container(build(overlay)):
        resources = {key: set(value) for key, value in container["resources"].items()}
        assert resources == {"limits": {"cpu", "memory"}, "requests": {"cpu", "memory"}}, title(
            workload
        )


@overlays
def test_liveness_and_readiness_have_separate_endpoints(overlay: str) -> None:
    """A pod that is not ready gets no traffic, but is restarted only if it is not alive."""
    model = containers(named(build(overlay), "Deployment", "model"))[-1]
    probes = {
        probe: model[f"{probe}Probe"]["httpGet"] for probe in ("startup", "readiness", "liveness")
    }

    assert probes == {
        "startup": {"path": "/readyz", "port": "http"},
        "readiness": {"path": "/readyz", "port": "http"},
        "liveness": {"path": "/healthz", "port": "http"},
    }


@overlays
def test_an_update_of_the_model_loses_no_request(overlay: str) -> None:
    """The old pod stops after the new one is ready, after a last scrape, with time to finish."""
    deployment = named(build(overlay), "Deployment", "model")
    rolling = deployment["spec"]["strategy"]["rollingUpdate"]
    pre_stop = containers(deployment)[-1]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod_spec(deployment)["terminationGracePeriodSeconds"]

    assert rolling == {"maxSurge": 1, "maxUnavailable": 0}
    assert pre_stop >= 5 + scrape_interval()
    assert grace >= pre_stop + graceful_timeout() + 5


def scrape_interval() -> int:
    """Return the scrape interval in seconds."""
    config = yaml.safe_load((ROOT / "prometheus/prometheus.yml").read_text())
    return int(config["global"]["scrape_interval"].removesuffix("s"))


def graceful_timeout() -> int:
    """Return the service's graceful timeout in Kubernetes in seconds."""
    setting = named_settings("model").get("MODEL_GRACEFUL_TIMEOUT")
    if setting:
        return int(setting)
    return int(Settings.model_fields["graceful_timeout"].default)


def named_settings(service: str) -> dict[str, str]:
    """Return a service's settings in the base."""
    maps = of_kind(build("base"), "ConfigMap")
    return next(
        each["data"] for each in maps if each["metadata"]["name"].startswith(f"{service}-settings-")
    )


@overlays
def test_every_service_selects_pods_that_listen(overlay: str) -> None:
    """Each Service selects exactly one workload and has only ports of that workload."""
    objects = build(overlay)
    for service in of_kind(objects, "Service"):
        found = selected(service["spec"]["selector"], workloads(objects))
        assert len(found) == 1, title(service)
        listening = ports(found[0])
        for port in service["spec"]["ports"]:
            assert listening[port["targetPort"]] == port["port"], title(service)


@overlays
def test_every_workload_selects_its_own_pods(overlay: str) -> None:
    """Each Deployment's selector matches its own pods and no other Deployment's."""
    deployments = of_kind(build(overlay), "Deployment")
    for deployment in deployments:
        selector = deployment["spec"]["selector"]["matchLabels"]
        assert selected(selector, deployments) == [deployment]


@overlays
def test_every_object_has_the_recommended_labels(overlay: str) -> None:
    """Every object has the label part-of, and pods also have the label name."""
    objects = build(overlay)

    assert {"ml-monitoring"} == {labels(each)["app.kubernetes.io/part-of"] for each in objects}
    for workload in workloads(objects):
        assert {"app.kubernetes.io/name", "app.kubernetes.io/part-of"} <= set(pod_labels(workload))


@overlays
def test_the_only_namespace_enforces_the_restricted_profile(overlay: str) -> None:
    """Every object is in one namespace, which enforces Pod Security's restricted level."""
    objects = build(overlay)
    (namespace,) = of_kind(objects, "Namespace")

    assert labels(namespace)["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {namespace["metadata"]["name"]} == {
        each["metadata"]["namespace"] for each in objects if each is not namespace
    }


@overlays
def test_every_service_monitor_names_the_job_of_the_contract(overlay: str) -> None:
    """Each ServiceMonitor selects one Service, whose jobLabel value is the expected job."""
    objects = build(overlay)
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        found = [
            service
            for service in of_kind(objects, "Service")
            if spec["selector"]["matchLabels"].items() <= labels(service).items()
        ]
        assert len(found) == 1, title(monitor)
        assert spec["serviceDiscoveryRole"] == "EndpointSlice", "terminating pods are scraped too"
        assert labels(found[0])[spec["jobLabel"]] == monitor["metadata"]["name"]
        offered = {port["name"] for port in found[0]["spec"]["ports"]}
        assert {endpoint["port"] for endpoint in spec["endpoints"]} <= offered


@applied
def test_custom_resources_have_the_release_label(overlay: str) -> None:
    """Every custom resource has the label by which kube-prometheus-stack selects."""
    custom = [each for each in build(overlay) if CUSTOM in each["apiVersion"]]

    assert {"prometheus-stack"} == {labels(each)["release"] for each in custom}


@overlays
def test_no_manifest_contains_a_secret(overlay: str) -> None:
    """No Secret, ConfigMap key or variable has the value of a secret."""
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
def test_every_referenced_configmap_exists(overlay: str) -> None:
    """Every ConfigMap that a pod refers to exists under that name, including its hash."""
    objects = build(overlay)
    existing = {each["metadata"]["name"] for each in of_kind(objects, "ConfigMap")}

    assert set(referenced_configmaps(overlay)) <= existing


def referenced_configmaps(overlay: str) -> Iterator[str]:
    """Yield the names of the ConfigMaps that pods refer to."""
    for workload, container in every_container(build(overlay)):
        for source in container.get("envFrom", ()):
            if "configMapRef" in source:
                yield source["configMapRef"]["name"]
        for volume in pod_spec(workload)["volumes"]:
            if "configMap" in volume:
                yield volume["configMap"]["name"]


def test_dashboards_can_be_loaded_by_the_sidecar() -> None:
    """Each has the sidecar's label, a stable name, and a size that `kubectl apply` accepts."""
    boards = [
        each for each in of_kind(build("base"), "ConfigMap") if "grafana_dashboard" in labels(each)
    ]

    assert boards
    for board in boards:
        assert labels(board)["grafana_dashboard"] == "1"
        assert not re.search(r"-[a-z0-9]{10}$", board["metadata"]["name"])
        # kubectl stores what it applied in an annotation, which is limited to 256 KiB.
        assert sum(map(len, board["data"].values())) < 200 * 1024


def test_overlays_require_one_key_for_all_replicas() -> None:
    """The base runs without the Secret of the key; the overlays wait for it."""
    assert key_reference("base") == {
        "name": "model-secrets",
        "key": "MODEL_PREDICTION_KEYS",
        "optional": True,
    }
    for overlay in APPLIED:
        assert key_reference(overlay)["optional"] is False, overlay


def key_reference(overlay: str) -> Json:
    """Return the reference of the model's pods to the key of prediction ids."""
    model = containers(named(build(overlay), "Deployment", "model"))[-1]
    (variable,) = [each for each in model["env"] if each["name"] == "MODEL_PREDICTION_KEYS"]
    reference: Json = variable["valueFrom"]["secretKeyRef"]
    return reference


def test_the_account_that_creates_the_key_has_no_other_permission() -> None:
    """It may create Secrets in its namespace, but neither read nor change them."""
    (role,) = of_kind(build("overlays/minikube"), "Role")

    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]
