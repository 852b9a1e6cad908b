"""The manifests are valid, secure and consistent with each other."""

import re
from collections.abc import Iterator

import pytest
import yaml

from serving.master import LAST_SCRAPE_SECONDS
from serving.settings import Settings
from tests.support.k8s import (
    OVERLAYS,
    WITH_BOTH,
    WITH_FIDDLER,
    WITH_LOG,
    Json,
    build,
    containers,
    custom_problems,
    every_container,
    labels,
    listens,
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
# What kubelet keeps of a container's logs: five files of 10 MiB.
LOGS_MIB = 50
# Requests of kube-system in a fresh minikube, and what two cores have, in thousandths of a core.
SYSTEM_MILLICORES = 750
TWO_CORES = 2000
APPLIED = (*OVERLAYS[1:], *WITH_FIDDLER)

overlays = pytest.mark.parametrize("overlay", [*OVERLAYS, *WITH_FIDDLER, *WITH_BOTH, WITH_LOG])
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
    """Every container has requests and limits for processor, memory and the node's disk."""
    each = {"cpu", "memory", "ephemeral-storage"}
    for workload, container in every_container(build(overlay)):
        resources = {key: set(value) for key, value in container["resources"].items()}
        assert resources == {"limits": each, "requests": each}, title(workload)


@overlays
def test_a_pod_may_fill_its_volumes_on_disk(overlay: str) -> None:
    """The limits of a pod's containers cover its volumes and logs, or it would be evicted."""
    for workload in workloads(build(overlay)):
        sizes = [
            mebibytes(volume["emptyDir"]["sizeLimit"])
            for volume in pod_spec(workload)["volumes"]
            if "emptyDir" in volume and "medium" not in volume["emptyDir"]
        ]
        limits = [
            mebibytes(each["resources"]["limits"]["ephemeral-storage"])
            for each in containers(workload)
        ]
        assert all(limit > LOGS_MIB for limit in limits), title(workload)
        assert sum(limits) >= sum(sizes) + LOGS_MIB * len(limits), title(workload)


@pytest.mark.parametrize("overlay", WITH_FIDDLER)
def test_the_spool_fits_its_volume_and_its_reservation(overlay: str) -> None:
    """The spool drops its oldest events before its volume is full, and the node keeps it room."""
    model = named(build(overlay), "Deployment", "model")
    spool = int(named_settings("model")["MODEL_SPOOL_MAX_BYTES"]) / 2**20
    (volume,) = [each for each in pod_spec(model)["volumes"] if each["name"] == "spool"]
    requests = containers(model)[-1]["resources"]["requests"]

    assert mebibytes(volume["emptyDir"]["sizeLimit"]) >= 2 * spool
    assert mebibytes(requests["ephemeral-storage"]) >= spool


def mebibytes(quantity: str) -> int:
    """Return a quantity in MiB."""
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 1, "Gi": 1024}[unit]


@pytest.mark.parametrize("overlay", ["overlays/minikube", "overlays/minikube-fiddler"])
def test_two_cores_have_room_for_a_rollout(overlay: str) -> None:
    """The requests of all pods, of one more for each Deployment, and of the system fit."""
    ours = sum(pod_millicores(each) * pods_at_once(each) for each in workloads(build(overlay)))
    charts = yaml.safe_load((ROOT / "k8s/overlays/minikube/kube-prometheus-stack.yaml").read_text())
    prometheus = charts["prometheus"]["prometheusSpec"]["resources"]["requests"]["cpu"]

    assert ours + millicores(prometheus) + SYSTEM_MILLICORES <= TWO_CORES


def pod_millicores(workload: Json) -> int:
    """Return what a pod requests: sidecars run beside its containers, other init containers before.

    The larger of both phases counts.
    """
    spec = pod_spec(workload)
    init = spec.get("initContainers", ())
    beside = [each for each in init if each.get("restartPolicy") == "Always"]
    before = [requested(each) for each in init if each not in beside]
    return max([sum(map(requested, [*spec["containers"], *beside])), *before])


def requested(container: Json) -> int:
    """Return a container's request in thousandths of a core."""
    return millicores(container["resources"]["requests"]["cpu"])


def millicores(quantity: str) -> int:
    """Return a quantity of processor time in thousandths of a core."""
    return int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)


def pods_at_once(workload: Json) -> int:
    """Return the most pods that a workload has during a rollout; by default a quarter more."""
    spec = workload["spec"]
    strategy = spec.get("strategy", {})
    replicas = int(spec.get("replicas", 1))
    if workload["kind"] == "Job" or strategy.get("type") == "Recreate":
        return replicas
    return replicas + int(strategy.get("rollingUpdate", {}).get("maxSurge", -(-replicas // 4)))


@overlays
def test_a_second_apply_changes_no_deployment(overlay: str) -> None:
    """A strategy without its type is completed by the API server, and differs at each apply."""
    for deployment in of_kind(build(overlay), "Deployment"):
        strategy = deployment["spec"].get("strategy", {"type": "default"})
        assert "type" in strategy, title(deployment)


@pytest.mark.parametrize("overlay", ["overlays/minikube", "overlays/minikube-fiddler"])
def test_local_images_are_never_pulled(overlay: str) -> None:
    """A public registry may have somebody else's image of the same name."""
    policies = {container["imagePullPolicy"] for _, container in every_container(build(overlay))}

    assert policies == {"Never"}


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
    """The old pod stops after the new one is ready, with time to finish and for a last scrape."""
    deployment = named(build(overlay), "Deployment", "model")
    strategy = deployment["spec"]["strategy"]
    pre_stop = containers(deployment)[-1]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod_spec(deployment)["terminationGracePeriodSeconds"]

    assert strategy == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
    }
    assert pre_stop >= 5
    assert grace >= pre_stop + graceful_timeout() + LAST_SCRAPE_SECONDS + 5


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
        numbers = ports(found[0])
        for port in service["spec"]["ports"]:
            target = port["targetPort"]
            assert listens(found[0], target), title(service)
            assert numbers.get(target, target) == port["port"], title(service)


@overlays
def test_no_port_of_a_sidecar_is_used_by_name(overlay: str) -> None:
    """Services before Kubernetes 1.32 and some policy engines look at `containers` only."""
    objects = build(overlay)
    hidden = {
        port["name"]
        for workload in workloads(objects)
        for container in pod_spec(workload).get("initContainers", ())
        for port in container.get("ports", ())
    }
    used = {
        port["targetPort"]
        for service in of_kind(objects, "Service")
        for port in service["spec"]["ports"]
    } | {
        port["port"]
        for policy in of_kind(objects, "NetworkPolicy")
        for rule in (*policy["spec"].get("ingress", ()), *policy["spec"].get("egress", ()))
        for port in rule.get("ports", ())
    }

    assert used & hidden == set()


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
    namespace = yaml.safe_load((ROOT / "k8s/base/namespace.yaml").read_text())
    name = namespace["metadata"]["name"]

    assert labels(namespace)["pod-security.kubernetes.io/enforce"] == "restricted"
    assert {name} == {each["metadata"].get("namespace", name) for each in objects}


@overlays
def test_deleting_production_keeps_the_secrets_of_its_namespace(overlay: str) -> None:
    """Only an overlay that creates its own Secrets contains the namespace."""
    contained = [title(each) for each in of_kind(build(overlay), "Namespace")]

    assert contained == ([] if "production" in overlay else ["Namespace/ml-monitoring"])


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
    expected = {
        "overlays/minikube-fiddler": ["fiddler-secrets"],
        "overlays/minikube-both": ["fiddler-secrets", "prediction-log-secrets"],
    }
    assert made == expected.get(overlay, [])
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
        assert not re.search(r"-[bcdfghkmt24-9]{10}$", board["metadata"]["name"])
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
