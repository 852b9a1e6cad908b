"""Builds the manifests with kustomize and queries the objects for tests."""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import yaml
from jsonschema import Draft202012Validator
from kubernetes_validate.utils import (  # type: ignore[import-untyped]
    SchemaNotFoundError,
    ValidationError,
    validate,
)

from tests.support.machine import require
from tools import ROOT

SCHEMAS = Path(__file__).parent / "schemas"

# Directories below k8s/ that a fresh clone can apply.
OVERLAYS = ("base", "overlays/minikube", "overlays/production")
# Overlays that need a secret, or an edit that k8s/README.md describes.
WITH_FIDDLER = ("overlays/minikube-fiddler", "overlays/production-fiddler")

# Likewise, made for tests: with a publisher for each destination, and with that of the log alone.
WITH_BOTH = ("overlays/minikube-both", "overlays/production-both")
WITH_LOG = "overlays/production-prediction-log"

# Overlays for what not every cluster has; the one with the Gateway API is an edit of production.
WITH_KSERVE = "overlays/kserve"
WITH_GATEWAY = "overlays/production-gateway"
# A bundle from an object store: production, alone and with Fiddler, and minikube.
WITH_REMOTE_BUNDLE = (
    "overlays/production-remote-bundle",
    "overlays/production-fiddler-remote-bundle",
    "overlays/minikube-remote-bundle",
)

# The sources of the manifests, and the files that they are compared with.
SOURCES = ("compose.yaml", "pyproject.toml", "grafana", "k8s", "prometheus", "services")

Json = dict[str, Any]
Objects = tuple[Json, ...]


class BuildError(Exception):
    """Kustomize failed; the message is its own."""


@cache
def build(overlay: str, root: Path | None = None) -> Objects:
    """Return the objects that `kubectl apply -k` would send for an overlay. Raises BuildError.

    `root` is the checkout. It defaults to this one, or for overlays that need a secret to a copy
    that has one.
    """
    edited = (*WITH_FIDDLER, *WITH_BOTH, WITH_LOG, WITH_GATEWAY, *WITH_REMOTE_BUNDLE)
    root = root or (prepared() if overlay in edited else ROOT)
    command = [require("kustomize"), "build", str(root / "k8s" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(done.stderr.strip())
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


@cache
def prepared() -> Path:
    """Return a copy of this checkout with every edit that k8s/README.md describes."""
    root = Path(tempfile.mkdtemp(prefix="k8s-"))
    atexit.register(shutil.rmtree, root)
    copy_checkout(root)
    return root


def copy_checkout(target: Path) -> None:
    """Copy the sources, fill in a secret, and add overlays of production with a component each."""
    ignored = shutil.ignore_patterns("__pycache__", "*.csv", "*.secret")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=ignored)
        else:
            shutil.copy(source, target / name)
    for example in target.glob("k8s/secrets/*/*.secret.example"):
        if example.stem != "grafana.secret":
            example.with_suffix("").write_text(example.read_text().replace("=", "=given"))
    overlays = target / "k8s/overlays"
    for component in ("fiddler", "gateway", "prediction-log", "remote-bundle"):
        _add_production(overlays, component, component)
    _add_production(overlays, "both", "prediction-log", "fiddler")
    _add_production(overlays, "fiddler-remote-bundle", "fiddler", "remote-bundle")
    _add_minikube_with_both(overlays)
    _add_minikube_with_remote_bundle(overlays)


def _add_production(overlays: Path, name: str, *components: str) -> None:
    edited = overlays / f"production-{name}"
    shutil.copytree(overlays / "production", edited)
    lines = "".join(f"  - ../../components/{each}\n" for each in components)
    _edit(edited / "kustomization.yaml", "patches:\n", f"components:\n{lines}\npatches:\n")


def _add_minikube_with_both(overlays: Path) -> None:
    edited = overlays / "minikube-both"
    shutil.copytree(overlays / "minikube-fiddler", edited)
    for directory in ("secrets", "components"):
        line = f"  - ../../{directory}/fiddler\n"
        _edit(edited / "kustomization.yaml", line, line + line.replace("fiddler", "prediction-log"))


def _add_minikube_with_remote_bundle(overlays: Path) -> None:
    edited = overlays / "minikube-remote-bundle"
    shutil.copytree(overlays / "minikube", edited)
    line = "  - ../../components/remote-bundle\n"
    _edit(edited / "kustomization.yaml", "\nlabels:\n", f"{line}\nlabels:\n")


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def of_kind(objects: Objects, *kinds: str) -> list[Json]:
    """Return the objects of some kinds."""
    return [each for each in objects if each["kind"] in kinds]


def named(objects: Objects, kind: str, name: str) -> Json:
    """Return the one object of that kind and name."""
    found = [each for each in of_kind(objects, kind) if each["metadata"]["name"] == name]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} objects are {kind}/{name}")
    return found[0]


def title(each: Json) -> str:
    """Return an object's display name: Kind/name."""
    return f"{each['kind']}/{each['metadata']['name']}"


def labels(each: Json) -> Mapping[str, str]:
    """Return an object's own labels."""
    return cast("Mapping[str, str]", each["metadata"].get("labels", {}))


def workloads(objects: Objects) -> list[Json]:
    """Return the objects that create pods."""
    return of_kind(objects, "Deployment", "Job")


def pod_labels(workload: Json) -> Mapping[str, str]:
    """Return the labels of a workload's pods."""
    return labels(workload["spec"]["template"])


def pod_spec(workload: Json) -> Json:
    """Return the specification of a workload's pods."""
    return cast("Json", workload["spec"]["template"]["spec"])


def containers(workload: Json) -> list[Json]:
    """Return all containers of a workload, including sidecars."""
    spec = pod_spec(workload)
    return [*spec.get("initContainers", ()), *spec["containers"]]


def every_container(objects: Objects) -> Iterator[tuple[Json, Json]]:
    """Yield (workload, container) for each container."""
    for workload in workloads(objects):
        for container in containers(workload):
            yield workload, container


def ports(workload: Json) -> dict[str, int]:
    """Return a workload's ports by name."""
    return {
        port["name"]: port["containerPort"]
        for container in containers(workload)
        for port in container.get("ports", ())
    }


def listens(workload: Json, port: str | int) -> bool:
    """Return whether a workload has a port of that name or number."""
    known = ports(workload)
    return port in (known if isinstance(port, str) else known.values())


def selected(selector: Mapping[str, str], candidates: list[Json]) -> list[Json]:
    """Return the workloads whose pods a label selector matches."""
    return [each for each in candidates if selector.items() <= pod_labels(each).items()]


def schema_problems(each: Json, version: str) -> list[str]:
    """Return the errors of an object against the schema of a Kubernetes version."""
    try:
        validate(each, version, strict=True)
    except SchemaNotFoundError:
        return [f"{title(each)}: {each['apiVersion']} is not in Kubernetes {version}"]
    except ValidationError as error:
        return [f"{title(each)}: {error.json_path}: {error.message}"]
    return []


def custom_problems(each: Json) -> list[str]:
    """Return the errors of a custom resource against its schema in tests/support/schemas."""
    return [
        f"{title(each)}: {error.json_path}: {error.message}"
        for error in _custom_schema(each["kind"]).iter_errors(each)
    ]


@cache
def _custom_schema(kind: str) -> Draft202012Validator:
    schema = yaml.safe_load((SCHEMAS / f"{kind.lower()}.yaml").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)
