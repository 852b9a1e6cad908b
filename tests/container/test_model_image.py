"""The image of the model: what it contains, and how it runs on a read-only root."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from testcontainers.core.container import DockerContainer

from bundle.manifest import Manifest
from tests.support.docker import (
    HARDENED,
    METRICS_TMPFS,
    built,
    check_command,
    container,
    docker,
    ended,
    importable,
    inspect,
    logs,
    only_error,
    url,
)
from tests.support.example import TARGET, held_out_rows, without_target
from tests.support.wait import eventually

pytestmark = pytest.mark.timeout(900)  # the first test builds the image


@pytest.fixture(scope="module")
def image() -> str:
    """Return the built image's name."""
    return built("model")


@pytest.fixture(scope="module")
def model(image: str) -> Iterator[DockerContainer]:
    """Start a service with the restrictions of compose.yaml."""
    with hardened(image) as started:
        wait_until_ready(started)
        yield started


def hardened(image: str) -> DockerContainer:
    """Return a container with a read-only root and only a tmpfs for the metrics."""
    restricted = container(image, 8000, 8001, **HARDENED)
    restricted.tmpfs.update(METRICS_TMPFS)
    return restricted


def wait_until_ready(started: DockerContainer) -> None:
    """Wait until the service is ready, or fail with its output."""
    try:
        eventually(lambda: httpx.get(url(started, 8000, "/readyz")).is_success, "ready")
    except (AssertionError, TimeoutError) as error:
        pytest.fail(f"{error}\n{logs(started)}", pytrace=False)


def test_the_image_is_below_450_megabytes(image: str) -> None:
    """A cluster pulls less than 450 MB."""
    assert inspect(image)["Size"] < 450e6


def test_the_image_runs_as_a_numbered_user_without_a_shell(image: str) -> None:
    """The entrypoint is the service's, and its readiness is the health check."""
    check_command(image, ["python", "entrypoint.py"], ("8000", "/readyz"), "8000", "8001")


def test_the_image_contains_nothing_for_training(image: str) -> None:
    """It contains neither the example, nor what tables are read with, nor a package installer."""
    modules = ("sklearn", "pandas", "pyarrow", "example", "pip", "testcontainers")

    # pandas is for an estimator that takes data frames.
    assert importable(image, *modules) == ["sklearn", "pandas"]


def test_the_model_predicts_with_a_read_only_root(
    model: DockerContainer, example: Manifest, example_bundle: Path
) -> None:
    """A row gets a prediction with the version of the image's model."""
    row = without_target(held_out_rows(example_bundle)[0])

    answer = httpx.post(url(model, 8000, "/predict"), json=row).raise_for_status().json()

    assert example.reference[-1].minimum <= answer[TARGET] <= example.reference[-1].maximum
    assert answer["model_version"] == httpx.get(url(model, 8000, "/")).json()["version"]
    assert httpx.get(url(model, 8000, "/healthz")).status_code == 200


def test_a_mounted_bundle_is_served(image: str, example: Manifest, example_bundle: Path) -> None:
    """It is mounted as compose.yaml mounts the directory MODEL_BUNDLE of the host."""
    mounted = "/mnt/srv/bundle"
    other = hardened(image).with_volume_mapping(str(example_bundle), mounted, "ro")
    with other.with_env("MODEL_BUNDLE", mounted) as started:
        wait_until_ready(started)
        assert httpx.get(url(started, 8000, "/")).json()["version"] == example.version


def test_metrics_and_predictions_are_on_separate_ports(model: DockerContainer) -> None:
    """A client of the API cannot read metrics, and Prometheus cannot request predictions."""
    assert httpx.get(url(model, 8000, "/metrics")).status_code == 404
    assert "model_info{" in httpx.get(url(model, 8001, "/metrics")).text
    assert "model_version" not in httpx.post(url(model, 8001, "/predict"), json={}).text


def test_the_health_check_of_the_image_succeeds(model: DockerContainer) -> None:
    """Docker reports the container as healthy."""
    name = model.get_container_id()

    eventually(
        lambda: inspect(name)["State"]["Health"]["Status"] == "healthy", "Docker reports healthy"
    )


def test_a_failed_probe_prints_one_line(model: DockerContainer) -> None:
    """`docker inspect` shows the path and the reason."""
    result = model.exec(["python", "/srv/probe.py", "1", "/readyz"])

    assert result.exit_code == 1
    assert result.output.decode() == "/readyz: [Errno 111] Connection refused\n"


def test_the_model_stops_cleanly_on_sigterm(image: str) -> None:
    """`docker stop` ends it with exit code 0 and no traceback."""
    with hardened(image) as started:
        wait_until_ready(started)
        docker("stop", "--time", "40", started.get_container_id())
        code, errors = ended(started)

    assert code == 0
    assert not [line for line in errors if "Traceback" in line]


def test_the_error_of_a_missing_bundle_is_one_line(image: str) -> None:
    """The container exits with 1 and names the path of MODEL_BUNDLE."""
    with hardened(image).with_env("MODEL_BUNDLE", "/nowhere") as started:
        line = only_error(started)

    assert line.startswith("model: ")
    assert "/nowhere" in line


def test_the_error_of_a_missing_tmpfs_is_one_line(image: str) -> None:
    """The container exits with 1 and names the setting and the directory."""
    with container(image, **HARDENED) as started:
        line = only_error(started)

    assert line.startswith("model: PROMETHEUS_MULTIPROC_DIR: /run/model-metrics ")


def test_logs_are_json_lines(model: DockerContainer) -> None:
    """Log collectors can parse every line."""
    entries = [set(json.loads(line)) for line in logs(model).splitlines()]

    assert {"time", "level", "message"} <= set.intersection(*entries)
