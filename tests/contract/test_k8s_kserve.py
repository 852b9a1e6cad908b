"""components/kserve: an InferenceService whose pods are those of the Deployment."""

import pytest

from tests.support.k8s import (
    WITH_KSERVE,
    Json,
    build,
    containers,
    labels,
    named,
    of_kind,
    pod_spec,
    schema_problems,
)

# KServe's own kinds, and the operator's.
CUSTOM = ("serving.kserve.io", "monitoring.coreos.com")


def predictor() -> Json:
    """Return what KServe runs."""
    found: Json = named(build(WITH_KSERVE), "InferenceService", "model-kserve")["spec"]["predictor"]
    return found


def deployed() -> Json:
    """Return the Deployment whose place it takes, with a required key."""
    return named(build("overlays/production"), "Deployment", "model")


def test_only_kserve_runs_the_model() -> None:
    """There is no Deployment beside the InferenceService."""
    assert of_kind(build(WITH_KSERVE), "Deployment") == []


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_native_objects_are_valid(version: str) -> None:
    """Every object but the custom ones fits the schemas of Kubernetes."""
    native = [each for each in build(WITH_KSERVE) if each["apiVersion"].split("/")[0] not in CUSTOM]

    assert [problem for each in native for problem in schema_problems(each, version)] == []


def test_its_container_is_that_of_the_deployment() -> None:
    """Ports, settings, key, probes, limits and security are the same; only the name is KServe's."""
    (container,) = predictor()["containers"]
    base = containers(named(build("base"), "Deployment", "model"))[-1]
    required = containers(deployed())[-1]

    assert container["name"] == "kserve-container"
    assert container | {"name": "model", "env": base["env"]} == base
    assert container["env"] == required["env"]


def test_its_pods_are_those_of_the_deployment() -> None:
    """Account, security context, volumes and times are the same."""
    base = pod_spec(named(build("base"), "Deployment", "model"))
    own = {key: value for key, value in predictor().items() if key in base}

    assert own | {"containers": base["containers"]} == base
    assert (
        predictor()["deploymentStrategy"]
        == (named(build("base"), "Deployment", "model")["spec"]["strategy"])
    )


def test_its_pods_are_scraped_once() -> None:
    """The monitor selects our Service only, although KServe's has the labels of the pods too."""
    objects = build(WITH_KSERVE)
    service = named(objects, "Service", "model")
    selector = named(objects, "ServiceMonitor", "model")["spec"]["selector"]["matchLabels"]
    # KServe gives its Service the labels of the InferenceService and of the predictor.
    kserves = labels(named(objects, "InferenceService", "model-kserve")) | predictor()["labels"]

    assert service["spec"]["selector"].items() <= predictor()["labels"].items()
    assert selector.items() <= labels(service).items()
    assert not selector.items() <= kserves.items()
