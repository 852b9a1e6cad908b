"""components/fiddler: the publisher as a sidecar of the model, in both overlays that use it."""

import pytest

from tests.support.k8s import (
    WITH_FIDDLER,
    BuildError,
    Json,
    build,
    containers,
    named,
    pod_spec,
    ports,
    prepared,
)
from tools import ROOT

DRAIN = ["python", "-m", "publisher.drain"]
SPOOL = "/var/spool/model"

overlays = pytest.mark.parametrize("overlay", WITH_FIDDLER)


def container(overlay: str, name: str) -> Json:
    """Return a container of the model's pods."""
    found = containers(named(build(overlay), "Deployment", "model"))
    return next(each for each in found if each["name"] == name)


@overlays
def test_the_publisher_outlives_the_model(overlay: str) -> None:
    """The publisher is a native sidecar, which stops last, and has time to send the last events."""
    deployment = named(build(overlay), "Deployment", "model")
    publisher = container(overlay, "publisher")

    assert publisher in pod_spec(deployment)["initContainers"]
    assert publisher["restartPolicy"] == "Always"
    assert publisher["lifecycle"]["preStop"]["exec"]["command"] == DRAIN
    assert pod_spec(deployment)["terminationGracePeriodSeconds"] == 480


@overlays
def test_model_and_publisher_use_one_spool_on_disk(overlay: str) -> None:
    """The spool survives container restarts and uses no memory."""
    deployment = named(build(overlay), "Deployment", "model")
    volumes = {each["name"]: each for each in pod_spec(deployment)["volumes"]}
    for name in ("model", "publisher"):
        each = container(overlay, name)
        variables = {variable["name"]: variable.get("value") for variable in each["env"]}
        (mounted,) = [mount for mount in each["volumeMounts"] if mount["mountPath"] == SPOOL]
        assert variables["MODEL_SPOOL_DIR"] == SPOOL
        assert "medium" not in volumes[mounted["name"]]["emptyDir"]


@overlays
def test_fiddler_cannot_make_the_model_unready(overlay: str) -> None:
    """The publisher has no probes, because a sidecar's probes affect its pod."""
    assert [key for key in container(overlay, "publisher") if key.endswith("Probe")] == []


@overlays
def test_the_credentials_are_a_secret_with_a_fixed_name(overlay: str) -> None:
    """The name has no hash, so a secret store can provide the Secret instead of the generator."""
    references = [each.get("secretRef") for each in container(overlay, "publisher")["envFrom"]]

    assert {"name": "fiddler-secrets"} in references


def test_production_allows_only_what_the_publisher_needs() -> None:
    """It allows HTTPS egress, scrapes and the other pods' publishers; the registry is the same."""
    objects = build("overlays/production-fiddler")
    policy = named(objects, "NetworkPolicy", "model")["spec"]
    listening = ports(named(objects, "Deployment", "model"))
    opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]

    pods = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "model"}}}
    assert policy["egress"] == [
        {"ports": [{"port": 443}]},
        {"to": [pods], "ports": [{"port": 9647}]},
    ]
    assert {listening.get(port, port) for port in opened} == {*listening.values()}
    assert {"from": [pods], "ports": [{"port": 9647}]} in policy["ingress"]
    prefix = container("overlays/production-fiddler", "model")["image"].rpartition("/")[0]
    image = container("overlays/production-fiddler", "publisher")["image"]
    assert image.rpartition("/")[0] == prefix


def test_a_fresh_clone_reports_the_missing_secret() -> None:
    """The build fails with the name of the missing file, and succeeds once it is filled in."""
    if (ROOT / "k8s/secrets/fiddler/fiddler.secret").exists():
        pytest.skip("this checkout has its secrets")

    assert build("overlays/minikube-fiddler", prepared())
    with pytest.raises(BuildError, match=r"fiddler\.secret"):
        build("overlays/minikube-fiddler", ROOT)
