"""components/remote-bundle: an init container brings the bundle, and nothing of it is a secret."""

import pytest
import yaml

from bundle.fetch import MAX_BYTES
from tests.support.k8s import (
    WITH_REMOTE_BUNDLE,
    Json,
    build,
    containers,
    every_container,
    named,
    of_kind,
    pod_spec,
    schema_problems,
)
from tools import ROOT
from tools.stack.settings import read_env_file

COMPONENT = ROOT / "k8s/components/remote-bundle"
every_overlay = pytest.mark.parametrize("overlay", WITH_REMOTE_BUNDLE)


def container(overlay: str, name: str, workload: str = "model") -> Json:
    """Return a container of a Deployment."""
    deployment = named(build(overlay), "Deployment", workload)
    (found,) = [each for each in containers(deployment) if each["name"] == name]
    return found


def variable(of: Json, name: str) -> Json:
    """Return a variable of a container."""
    (found,) = [each for each in of["env"] if each["name"] == name]
    return found  # type: ignore[no-any-return]


@every_overlay
def test_the_model_serves_what_the_init_container_downloads(overlay: str) -> None:
    """Both mount one volume, the model for reading only."""
    fetch, model = container(overlay, "fetch-bundle"), container(overlay, "model")
    place = fetch["command"][-1]
    mounted = [each for each in model["volumeMounts"] if each["name"] == "remote-bundle"]

    assert fetch in pod_spec(named(build(overlay), "Deployment", "model"))["initContainers"]
    assert fetch["command"][:-1] == ["python", "-m", "bundle.fetch"]
    assert variable(model, "MODEL_BUNDLE")["value"] == place
    assert [(each["mountPath"], each["readOnly"]) for each in mounted] == [("/srv/remote", True)]
    assert place.startswith("/srv/remote/")


@every_overlay
def test_it_runs_in_the_models_image_under_any_registry(overlay: str) -> None:
    """So nothing else has to be pulled."""
    assert container(overlay, "fetch-bundle")["image"] == container(overlay, "model")["image"]


@every_overlay
def test_the_address_is_a_secret(overlay: str) -> None:
    """No manifest holds it; without the Secret the pods do not start."""
    source = variable(container(overlay, "fetch-bundle"), "MODEL_BUNDLE_URL")["valueFrom"]

    assert source == {"secretKeyRef": {"name": "model-bundle", "key": "MODEL_BUNDLE_URL"}}
    for _, each in every_container(build(overlay)):
        named_there = [one["name"] for one in each.get("env", ())]
        assert each["name"] == "fetch-bundle" or "MODEL_BUNDLE_URL" not in named_there


@every_overlay
def test_the_hash_is_in_the_pods_configuration(overlay: str) -> None:
    """Another hash gives the ConfigMap another name, which rolls the pods."""
    (reference,) = container(overlay, "fetch-bundle")["envFrom"]
    settings = named(build(overlay), "ConfigMap", reference["configMapRef"]["name"])["data"]

    assert settings == read_env_file(COMPONENT / "remote-bundle.env")
    assert settings["MODEL_BUNDLE_SHA256"] == ""
    assert reference["configMapRef"]["name"].startswith("remote-bundle-")


@every_overlay
def test_the_volume_has_room_for_the_archive_and_its_content(overlay: str) -> None:
    """And so have the limits of both containers, or the pod is evicted."""
    settings = read_env_file(COMPONENT / "remote-bundle.env")
    volumes = pod_spec(named(build(overlay), "Deployment", "model"))["volumes"]
    (size,) = [each["emptyDir"]["sizeLimit"] for each in volumes if each["name"] == "remote-bundle"]
    names = ("fetch-bundle", "model")
    limits = [container(overlay, each)["resources"]["limits"] for each in names]

    assert int(settings["MODEL_BUNDLE_MAX_BYTES"]) == MAX_BYTES
    assert _bytes(size) > 2 * MAX_BYTES
    assert all(_bytes(size) < _bytes(each["ephemeral-storage"]) for each in limits)


def _bytes(quantity: str) -> int:
    return int(quantity.removesuffix("Mi")) * 2**20


def test_the_network_policy_of_production_lets_it_out() -> None:
    """To the object store, by TLS."""
    policy = named(build("overlays/production-remote-bundle"), "NetworkPolicy", "model")

    assert policy["spec"]["egress"] == [{"ports": [{"port": 443}]}]


def test_the_simulated_traffic_sends_rows_of_the_same_bundle() -> None:
    """In every pod of locust, where there is one."""
    overlay = "overlays/minikube-remote-bundle"
    for name in ("locust-master", "locust-worker"):
        fetch, locust = (container(overlay, each, name) for each in ("fetch-bundle", "locust"))
        assert variable(locust, "LOCUST_BUNDLE")["value"] == fetch["command"][-1]
        assert fetch == container(overlay, "fetch-bundle")
    assert of_kind(build("overlays/production-remote-bundle"), "Job") == []


def test_both_patches_agree() -> None:
    """They differ in names only."""
    texts = [
        (COMPONENT / name).read_text() for name in ("deployment.yaml", "deployment-locust.yaml")
    ]
    model, locust = (yaml.safe_load(text)["spec"]["template"]["spec"] for text in texts)

    assert model["initContainers"] == locust["initContainers"]
    assert model["volumes"] == locust["volumes"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_deployment_is_valid(version: str) -> None:
    """With both components, under old and new Kubernetes."""
    objects = build("overlays/production-fiddler-remote-bundle")

    assert list(schema_problems(named(objects, "Deployment", "model"), version)) == []
