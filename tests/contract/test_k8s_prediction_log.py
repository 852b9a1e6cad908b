"""components/prediction-log: a sidecar that writes Parquet files, with and without Fiddler's."""

from pathlib import Path

import pytest

from tests.support.k8s import (
    WITH_BOTH,
    WITH_LOG,
    Json,
    build,
    containers,
    copy_checkout,
    named,
    pod_spec,
)

PODS = {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "model"}}}

overlays = pytest.mark.parametrize("overlay", [WITH_LOG, *WITH_BOTH])


def container(overlay: str, name: str) -> Json:
    """Return a container of the model's pods."""
    found = containers(named(build(overlay), "Deployment", "model"))
    return next(each for each in found if each["name"] == name)


def variables(of: Json) -> dict[str, str]:
    """Return the variables of a container that have a value here."""
    return {each["name"]: each["value"] for each in of["env"] if "value" in each}


@overlays
def test_the_log_outlives_the_model(overlay: str) -> None:
    """It is a native sidecar, which stops last, once the spool is empty; it has no probes."""
    deployment = named(build(overlay), "Deployment", "model")
    log = container(overlay, "prediction-log")

    assert log in pod_spec(deployment)["initContainers"]
    assert log["restartPolicy"] == "Always"
    assert log["lifecycle"]["preStop"]["exec"]["command"] == ["python", "-m", "publisher.drain"]
    assert pod_spec(deployment)["terminationGracePeriodSeconds"] == 480
    assert [key for key in log if key.endswith("Probe")] == []


@overlays
def test_model_and_log_use_one_file_system_on_disk(overlay: str) -> None:
    """The log's directory lies in the spool's volume, or links could not be made."""
    volumes = {
        each["name"]: each
        for each in pod_spec(named(build(overlay), "Deployment", "model"))["volumes"]
    }
    model, log = container(overlay, "model"), container(overlay, "prediction-log")

    assert variables(model)["MODEL_SPOOL_LOG_DIR"] == variables(log)["MODEL_SPOOL_DIR"]
    assert ("MODEL_SPOOL_DIR" in variables(model)) == (overlay in WITH_BOTH)
    for each in (model, log):
        (mount,) = [one for one in each["volumeMounts"] if one["name"] == "spool"]
        assert variables(log)["MODEL_SPOOL_DIR"] == f"{mount['mountPath']}/log"
    assert "medium" not in volumes["spool"]["emptyDir"]


@pytest.mark.parametrize("overlay", WITH_BOTH)
@pytest.mark.parametrize("name", ["publisher", "prediction-log"])
def test_no_publisher_has_the_secrets_of_the_other(overlay: str, name: str) -> None:
    """Each reads one Secret."""
    secrets = [
        each["secretRef"]["name"]
        for each in container(overlay, name)["envFrom"]
        if "secretRef" in each
    ]

    own = {"publisher": "fiddler-secrets", "prediction-log": "prediction-log-secrets"}
    assert secrets == [own[name]]


def test_production_allows_only_what_the_log_needs() -> None:
    """The object store, and scrapes of one more port; the registry is that of the model."""
    policy = named(build(WITH_LOG), "NetworkPolicy", "model")["spec"]
    image = container(WITH_LOG, "prediction-log")["image"]

    assert policy["egress"] == [{"ports": [{"port": 443}]}]
    assert policy["ingress"][-1]["ports"] == [{"port": 9648}]
    assert image.rpartition("/")[0] == container(WITH_LOG, "model")["image"].rpartition("/")[0]


def test_one_line_changes_the_port_of_a_destination(tmp_path: Path) -> None:
    """Each component has its own; the publishers reach each other as before."""
    copy_checkout(tmp_path)
    for component, port in (("fiddler", 3128), ("prediction-log", 9000)):
        setting = tmp_path / "k8s" / "components" / component / "network.env"
        assert "\nEGRESS_PORT=443\n" in setting.read_text()
        setting.write_text(setting.read_text().replace("=443", f"={port}"))

    objects = build("overlays/production-both", tmp_path)

    assert named(objects, "NetworkPolicy", "model")["spec"]["egress"] == [
        {"ports": [{"port": 3128}]},
        {"ports": [{"port": 9000}]},
        {"to": [PODS], "ports": [{"port": 9647}]},
    ]
