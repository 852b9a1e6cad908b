"""Checks custom resources against the schemas that their projects publish.

The CustomResourceDefinitions are those of released Go modules, read from Go's module cache: they
are too large to be kept here, and no test downloads anything.
"""

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from jsonschema import Draft202012Validator

Json = dict[str, Any]


class Definition(NamedTuple):
    """Where a CustomResourceDefinition is published."""

    module: str
    version: str
    file: str

    @property
    def source(self) -> str:
        """Return the module as Go names it."""
        return f"{self.module}@{self.version}"


_OPERATOR = ("github.com/prometheus-operator/prometheus-operator", "v0.93.1")
_OPERATOR_CRDS = "example/prometheus-operator-crd/monitoring.coreos.com"
DEFINITIONS = {
    "HTTPRoute": Definition(
        "sigs.k8s.io/gateway-api",
        "v1.4.1",
        "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    ),
    "InferenceService": Definition(
        "github.com/kserve/kserve",
        "v0.16.0",
        "config/crd/full/serving.kserve.io_inferenceservices.yaml",
    ),
    "PrometheusRule": Definition(*_OPERATOR, f"{_OPERATOR_CRDS}_prometheusrules.yaml"),
    "ServiceMonitor": Definition(*_OPERATOR, f"{_OPERATOR_CRDS}_servicemonitors.yaml"),
    "Prometheus": Definition(*_OPERATOR, f"{_OPERATOR_CRDS}_prometheuses.yaml"),
    "Alertmanager": Definition(*_OPERATOR, f"{_OPERATOR_CRDS}_alertmanagers.yaml"),
}


def published_problems(each: Json) -> list[str]:
    """Return the errors of an object against its published schema; skip where it is not cached."""
    validator = _validator(each["kind"], each["apiVersion"].rpartition("/")[2])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(each)]


@cache
def _validator(kind: str, version: str) -> Draft202012Validator:
    definition = DEFINITIONS[kind]
    file = _cached(definition) / definition.file
    crd = yaml.load(file.read_text(), Loader=yaml.CSafeLoader)
    (served,) = [each for each in crd["spec"]["versions"] if each["name"] == version]
    schema = strict(served["schema"]["openAPIV3Schema"])
    # The API server checks these itself; a definition leaves them open.
    schema["properties"] |= {"metadata": {"type": "object"}}
    return Draft202012Validator(schema)


def _cached(definition: Definition) -> Path:
    """Return the directory of a module; skip the test if it was not downloaded."""
    directory = module_cache() / definition.source
    if not directory.is_dir():
        pytest.skip(
            f"{definition.source} is not in Go's module cache: go mod download {definition.source}"
        )
    return directory


def module_cache() -> Path:
    """Return Go's module cache, with or without Go."""
    go = shutil.which("go")
    if go:
        asked = subprocess.run(
            [go, "env", "GOMODCACHE"], capture_output=True, text=True, check=True
        )
        return Path(asked.stdout.strip())
    return Path(os.environ.get("GOMODCACHE") or Path.home() / "go/pkg/mod")


def strict(schema: Json) -> Json:
    """Return a structural schema as the API server reads it with strict field validation."""
    changed = {key: _strict_part(key, part) for key, part in schema.items()}
    if schema.get("x-kubernetes-int-or-string"):
        changed.pop("type", None)
        changed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if "properties" in schema and not is_open:
        changed["additionalProperties"] = False
    return changed


def _strict_part(key: str, part: Any) -> Any:  # noqa: ANN401 JSON
    if key == "properties":
        return {name: strict(each) for name, each in part.items()}
    if key in {"items", "additionalProperties"} and isinstance(part, dict):
        return strict(part)
    return part
