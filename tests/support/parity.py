"""Compares the Compose stack with the Kubernetes manifests.

`differences(root)` describes every difference in a checkout.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from serving.metrics.index import LINKED, MODEL_URL
from tests.support.k8s import (
    Json,
    Objects,
    build,
    containers,
    named,
    of_kind,
    pod_spec,
    ports,
    workloads,
)
from tests.support.settings_files import bare_settings
from tools import version

CHART_VALUES = "k8s/overlays/minikube/kube-prometheus-stack.yaml"

_VARIABLE = re.compile(r"\$\{\w+:-([^}]*)\}")
_SIZES = {"k": 2**10, "m": 2**20, "g": 2**30, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


@dataclass(frozen=True)
class Pair:
    """A Compose service, the equivalent workload, and the intended differences."""

    service: str
    deployment: str
    container: str
    more_env: frozenset[str] = frozenset()
    more_ports: frozenset[int] = frozenset()
    more_settings: dict[str, str] = field(default_factory=dict)
    own_settings: str = ""
    """The directory of its settings below services/, unless it has the service's name."""
    is_client: bool = False
    """Whether it has no ports, like a worker of the load test."""


# On Kubernetes the load test is distributed and ends after some time; in Compose it is neither.
_LOAD_TEST = {"LOCUST_RUN_TIME": "5m", "LOCUST_EXPECT_WORKERS": "2"}
PAIRS = (
    Pair("model", "model", "model", more_env=frozenset({"MODEL_SPOOL_DIR"})),
    Pair(
        "locust",
        "locust-master",
        "locust",
        more_env=frozenset({"LOCUST_MODE_MASTER"}),
        more_ports=frozenset({5557}),
        more_settings=_LOAD_TEST,
    ),
    Pair(
        "locust",
        "locust-worker",
        "locust",
        more_env=frozenset({"LOCUST_MODE_WORKER", "LOCUST_MASTER_NODE_HOST"}),
        more_settings=_LOAD_TEST,
        is_client=True,
    ),
    # Replicas, which ask each other, exist on Kubernetes only.
    Pair("publisher", "model", "publisher", more_env=frozenset({"PUBLISHER_PEERS"})),
    Pair("prediction-log", "model", "prediction-log", own_settings="publisher/log"),
)


def differences(root: Path) -> list[str]:
    """Return the differences in a checkout, one line each."""
    compose = _yaml(root / "compose.yaml")
    objects = build("overlays/minikube-both", root)
    found: list[str] = []
    for pair in (each for each in PAIRS if each.service in compose["services"]):
        found += _service(root, compose["services"][pair.service], pair, objects)
    found += _tags(root, compose, objects)
    found += _intervals(root, objects)
    found += _retention(root, compose)
    found += _targets(root, compose, objects)
    found += _rules(root, objects)
    found += _dashboards(root, objects)
    return found


def _service(root: Path, service: Json, pair: Pair, objects: Objects) -> Iterator[str]:
    deployment = named(objects, "Deployment", pair.deployment)
    container = next(each for each in containers(deployment) if each["name"] == pair.container)
    compared = [
        ("image", _default(service["image"]), container["image"]),
        ("user", service["user"], _user(deployment)),
        ("read-only root", service["read_only"], _security(container)["readOnlyRootFilesystem"]),
        ("dropped capabilities", service["cap_drop"], _security(container)["capabilities"]["drop"]),
        (
            "no new privileges",
            service["security_opt"] == ["no-new-privileges:true"],
            not _security(container)["allowPrivilegeEscalation"],
        ),
        ("memory", _size(service["mem_limit"]), _size(container["resources"]["limits"]["memory"])),
        ("in-memory directories", _tmpfs(service), _memory_mounts(deployment, container)),
        (
            "environment",
            _own_environment(root, pair, service) | pair.more_env,
            _environment(container, objects),
        ),
        (
            "settings",
            _settings(root, pair) | pair.more_settings,
            _config(container, objects),
        ),
    ]
    if not pair.is_client:
        compared.append(("ports", _ports(service) | pair.more_ports, _container_ports(container)))
    if "readinessProbe" in container:
        compared.append(("health", _health(service), _probe(deployment, container)))
    for what, compose, cluster in compared:
        if compose != cluster:
            yield f"{pair.deployment}: {what}: {compose} in Compose, {cluster} in Kubernetes"
    if _seconds(service.get("stop_grace_period", "10s")) > _grace(deployment):
        yield f"{pair.deployment}: grace period: longer in Compose than in Kubernetes"


def _tags(root: Path, compose: Json, objects: Objects) -> Iterator[str]:
    """Require the project's version as the tag of every image that is built here."""
    project_version = version.read(root)
    ours = [
        _default(service["image"]) for service in compose["services"].values() if "build" in service
    ]
    theirs = [each["image"] for workload in workloads(objects) for each in containers(workload)]
    for image in sorted({*ours, *theirs}):
        if not image.endswith(f":{project_version}"):
            yield f"{image}: the tag is not the project's version {project_version}"


def _intervals(root: Path, objects: Objects) -> Iterator[str]:
    """Require one interval everywhere: $__rate_interval and the rules depend on it."""
    prometheus = _yaml(root / "prometheus" / "prometheus.yml")["global"]
    spec = _yaml(root / CHART_VALUES)["prometheus"]["prometheusSpec"]
    wanted = prometheus["scrape_interval"]
    given = {
        "evaluation_interval": prometheus["evaluation_interval"],
        "the chart's scrapeInterval": spec["scrapeInterval"],
        "the chart's evaluationInterval": spec["evaluationInterval"],
    }
    for monitor in of_kind(objects, "ServiceMonitor"):
        for endpoint in monitor["spec"]["endpoints"]:
            given[f"ServiceMonitor/{monitor['metadata']['name']}"] = endpoint["interval"]
    for where, interval in given.items():
        if interval != wanted:
            yield f"interval: {wanted} in prometheus.yml, {interval} in {where}"


def _retention(root: Path, compose: Json) -> Iterator[str]:
    flag = f"--storage.tsdb.retention.time={_chart_retention(root)}"
    if flag not in compose["services"]["prometheus"]["command"]:
        yield f"retention: {flag} is missing in Compose"


def _chart_retention(root: Path) -> str:
    return str(_yaml(root / CHART_VALUES)["prometheus"]["prometheusSpec"]["retention"])


def _targets(root: Path, compose: Json, objects: Objects) -> Iterator[str]:
    """Compare the (host:port, job) pairs that Prometheus scrapes."""
    jobs = {
        (target, group["labels"]["job"])
        for directory in ("targets", "optional/*")
        for file in (root / "prometheus").glob(f"{directory}/*.yml")
        for group in yaml.safe_load(file.read_text())
        for target in group["targets"]
    }
    charts = {"prometheus", "alertmanager", "grafana"}
    ours = {(target, job) for target, job in jobs if job not in charts}
    scraped = {(target, job) for target, job in _scraped(objects) if job in compose["services"]}
    if ours != scraped:
        yield f"targets: {sorted(ours)} in target files, {sorted(scraped)} in ServiceMonitors"
    renamed = set(_chart_jobs(root))
    if renamed != charts:
        yield f"targets: the chart's jobs are renamed to {sorted(renamed)}"


def _scraped(objects: Objects) -> Iterator[tuple[str, str]]:
    for monitor in of_kind(objects, "ServiceMonitor"):
        spec = monitor["spec"]
        for service in of_kind(objects, "Service"):
            own = service["metadata"]["labels"]
            if spec["selector"]["matchLabels"].items() <= own.items():
                numbers = {port["name"]: port["port"] for port in service["spec"]["ports"]}
                for endpoint in spec["endpoints"]:
                    address = f"{service['metadata']['name']}:{numbers.get(endpoint['port'])}"
                    yield address, own.get(spec.get("jobLabel"), service["metadata"]["name"])


def _chart_jobs(root: Path) -> Iterator[str]:
    for part in _yaml(root / CHART_VALUES).values():
        for relabeling in part.get("serviceMonitor", {}).get("relabelings", ()):
            if relabeling["targetLabel"] == "job":
                yield relabeling["replacement"]


def _rules(root: Path, objects: Objects) -> Iterator[str]:
    files = sorted((root / "prometheus" / "rules").glob("*.yml"))
    source = [group for file in files for group in _yaml(file)["groups"]]
    rendered = [
        group for rule in of_kind(objects, "PrometheusRule") for group in rule["spec"]["groups"]
    ]
    if rendered != source:
        stale = [group["name"] for group in source if group not in rendered]
        yield f"rules: the PrometheusRule is stale in {stale or 'the order of its groups'}"


def _dashboards(root: Path, objects: Objects) -> Iterator[str]:
    files = (root / "grafana" / "provisioning" / "dashboards").glob("*.json")
    source = {(board := json.loads(file.read_text()))["uid"]: board for file in files}
    deployed = {
        (board := json.loads(text))["uid"]: board
        for each in of_kind(objects, "ConfigMap")
        if each["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for text in each["data"].values()
    }
    for uid in sorted({*source, *deployed}):
        if source.get(uid) != deployed.get(uid):
            yield f"dashboards: {uid} differs from its source"


def _yaml(path: Path) -> Json:
    loaded: Json = yaml.safe_load(path.read_text())
    return loaded


def _default(text: str) -> str:
    """Return a Compose value with each variable replaced by its default."""
    return _VARIABLE.sub(r"\1", text)


def _size(text: str) -> int:
    """Return a size in bytes."""
    number, unit = re.fullmatch(r"(\d+)(\w+)", text).groups()  # type: ignore[union-attr]
    return int(number) * _SIZES[unit]


def _seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def _security(container: Json) -> Json:
    context: Json = container["securityContext"]
    return context


def _user(deployment: Json) -> str:
    context = pod_spec(deployment)["securityContext"]
    return f"{context['runAsUser']}:{context['runAsGroup']}"


def _grace(deployment: Json) -> int:
    return int(pod_spec(deployment).get("terminationGracePeriodSeconds", 30))


def _ports(service: Json) -> set[int]:
    return {int(_default(each).rpartition(":")[2]) for each in service["ports"]}


def _container_ports(container: Json) -> set[int]:
    return {port["containerPort"] for port in container["ports"]}


def _health(service: Json) -> tuple[int, str]:
    """Return the port and path of a Compose health check."""
    *_, port, path = service["healthcheck"]["test"]
    return int(port), path


def _probe(deployment: Json, container: Json) -> tuple[int, str]:
    """Return the port and path of a readiness probe."""
    probe = container["readinessProbe"]["httpGet"]
    return ports(deployment)[probe["port"]], probe["path"]


def _tmpfs(service: Json) -> set[str]:
    return {each.partition(":")[0] for each in service.get("tmpfs", ())}


def _memory_mounts(deployment: Json, container: Json) -> set[str]:
    in_memory = {
        volume["name"]
        for volume in pod_spec(deployment)["volumes"]
        if volume.get("emptyDir", {}).get("medium") == "Memory"
    }
    mounts = container["volumeMounts"]
    return {mount["mountPath"] for mount in mounts if mount["name"] in in_memory}


def _settings(root: Path, pair: Pair) -> dict[str, str]:
    return bare_settings(root / "services" / (pair.own_settings or pair.service) / "settings.env")


def _own_environment(root: Path, pair: Pair, service: Json) -> set[str]:
    """Return the variables of a Compose service except its settings and what a cluster lacks.

    In a cluster the bundle is that of the image, and neither addresses nor certificates are from
    this machine.
    """
    elsewhere = {"MODEL_BUNDLE", "LOCUST_BUNDLE", "REQUESTS_CA_BUNDLE", MODEL_URL, *LINKED}
    variables = set(service["environment"]) - elsewhere
    return variables - _settings(root, pair).keys()


def _environment(container: Json, objects: Objects) -> set[str]:
    """Return the names of a container's environment variables other than its settings."""
    secrets = [each["secretRef"]["name"] for each in _sources(container, "secretRef")]
    return {each["name"] for each in container.get("env", ())} | {
        key for name in secrets for key in named(objects, "Secret", name)["data"]
    }


def _sources(container: Json, kind: str) -> list[Json]:
    return [each for each in container.get("envFrom", ()) if kind in each]


def _config(container: Json, objects: Objects) -> dict[str, str]:
    """Return a container's settings from ConfigMaps."""
    maps = [each["configMapRef"]["name"] for each in _sources(container, "configMapRef")]
    return {
        key: value
        for name in maps
        for key, value in named(objects, "ConfigMap", name)["data"].items()
    }
