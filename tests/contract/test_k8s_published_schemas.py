"""Custom resources fit the schemas that the operator, the Gateway API and KServe publish."""

from typing import Any

import pytest
import yaml

from tests.support.crds import published_problems, strict
from tests.support.k8s import (
    OVERLAYS,
    WITH_FIDDLER,
    WITH_GATEWAY,
    WITH_KSERVE,
    WITH_LOG,
    build,
    named,
    of_kind,
)
from tools import ROOT

Json = dict[str, Any]

MONITORS = ("ServiceMonitor", "PrometheusRule")


@pytest.mark.parametrize("overlay", [*OVERLAYS, *WITH_FIDDLER, WITH_LOG, WITH_GATEWAY, WITH_KSERVE])
@pytest.mark.parametrize("kind", MONITORS)
def test_monitors_and_rules_fit_the_operators_schema(overlay: str, kind: str) -> None:
    """Field by field, as the API server checks it strictly."""
    found = of_kind(build(overlay), kind)

    assert found
    assert [problem for each in found for problem in published_problems(each)] == []


@pytest.mark.parametrize(
    ("kind", "section"), [("Prometheus", "prometheus"), ("Alertmanager", "alertmanager")]
)
def test_the_charts_values_fit_the_operators_schema(kind: str, section: str) -> None:
    """What the chart hands over to the operator as it is has the operator's field names."""
    files = ("k8s/overlays/minikube/kube-prometheus-stack.yaml", "prometheus/slack.values.yaml")
    given = [yaml.safe_load((ROOT / file).read_text()).get(section, {}) for file in files]
    for each in given:
        # The chart's names for two of the operator's fields.
        spec = dict(each.get(f"{section}Spec", {}))
        if "storageSpec" in spec:
            spec["storage"] = spec.pop("storageSpec")
        resource = {
            "apiVersion": "monitoring.coreos.com/v1",
            "kind": kind,
            "metadata": {"name": "chart"},
            "spec": spec,
        }
        assert published_problems(resource) == []


def test_the_route_fits_the_gateway_apis_schema() -> None:
    """The HTTPRoute of components/gateway is valid."""
    assert published_problems(named(build(WITH_GATEWAY), "HTTPRoute", "model")) == []


def test_the_inference_service_fits_kserves_schema() -> None:
    """The InferenceService of components/kserve is valid."""
    assert published_problems(named(build(WITH_KSERVE), "InferenceService", "model-kserve")) == []


@pytest.mark.parametrize(
    "broken",
    [
        {"predictor": {"container": []}},
        {"predictor": {"containers": [{"name": "kserve-container", "readinesProbe": {}}]}},
        {"predictor": {"containers": [{"image": 1}]}},
    ],
    ids=["unknown field", "unknown field deep inside", "wrong type"],
)
def test_the_schema_check_rejects_what_kserve_rejects(broken: Json) -> None:
    """A misspelt field is reported at any depth, and so is a wrong type."""
    valid = named(build(WITH_KSERVE), "InferenceService", "model-kserve")

    assert published_problems({**valid, "spec": broken})


def test_strict_schemas_keep_what_a_definition_leaves_open() -> None:
    """Maps and preserved fields accept any name; objects with known fields do not."""
    schema = strict(
        {
            "type": "object",
            "properties": {
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                "raw": {
                    "type": "object",
                    "properties": {},
                    "x-kubernetes-preserve-unknown-fields": True,
                },
                "port": {"x-kubernetes-int-or-string": True},
            },
        }
    )

    assert schema["additionalProperties"] is False
    assert schema["properties"]["labels"]["additionalProperties"] == {"type": "string"}
    assert "additionalProperties" not in schema["properties"]["raw"]
    assert schema["properties"]["port"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
