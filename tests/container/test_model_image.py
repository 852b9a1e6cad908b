"""The model's image: what is in it, and how it behaves where nothing may be written."""

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
    container,
    docker,
    ended,
    inspect,
    logs,
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
    """Start a service, as locked up as compose.yaml locks it up."""
    with hardened(image) as started:
        wait_until_ready(started)
        yield started


def hardened(image: str) -> DockerContainer:
    """Return a container with a read-only root and nothing but a tmpfs for the metrics."""
    locked_up = container(image, 8000, 8001, **HARDENED)
    locked_up.tmpfs.update(METRICS_TMPFS)
    return locked_up


def wait_until_ready(started: DockerContainer) -> None:
    """Wait until the service says that its model is loaded; fail with what it wrote."""
    try:
        eventually(lambda: httpx.get(url(started, 8000, "/readyz")).is_success, "ready")
    except (AssertionError, TimeoutError) as error:
        pytest.fail(f"{error}\n{logs(started)}", pytrace=False)


def test_image_is_below_450_megabytes(image: str) -> None:
    """A cluster pulls less than 450 MB."""
    assert inspect(image)["Size"] < 450e6


def test_image_runs_as_a_numbered_user_without_a_shell_in_between(image: str) -> None:
    """Kubernetes can tell that it is not root, and signals reach the service."""
    config = inspect(image)["Config"]

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["python", "entrypoint.py"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/srv/probe.py", "8000", "/readyz"]
    assert {"8000/tcp", "8001/tcp"} == set(config["ExposedPorts"])


def test_image_holds_nothing_of_training(image: str) -> None:
    """Neither pandas nor the example, nor a package installer."""
    ask = (
        "import importlib.util, sys;"
        "print([name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    modules = ("sklearn", "pandas", "example", "pip", "testcontainers")

    found = docker("run", "--rm", "--entrypoint", "python", image, "-c", ask, *modules)

    assert found == "['sklearn']"


def test_model_predicts_from_a_read_only_root(
    model: DockerContainer, example: Manifest, example_bundle: Path
) -> None:
    """A row gets its prediction, and the image knows which model it serves."""
    row = without_target(held_out_rows(example_bundle)[0])

    answer = httpx.post(url(model, 8000, "/predict"), json=row).raise_for_status().json()

    assert example.reference[-1].minimum <= answer[TARGET] <= example.reference[-1].maximum
    assert answer["model_version"] == httpx.get(url(model, 8000, "/")).json()["version"]
    assert httpx.get(url(model, 8000, "/healthz")).status_code == 200


def test_a_mounted_bundle_is_served(image: str, example: Manifest, example_bundle: Path) -> None:
    """As compose.yaml mounts the directory that MODEL_BUNDLE names on the host."""
    mounted = "/mnt/srv/bundle"
    other = hardened(image).with_volume_mapping(str(example_bundle), mounted, "ro")
    with other.with_env("MODEL_BUNDLE", mounted) as started:
        wait_until_ready(started)
        assert httpx.get(url(started, 8000, "/")).json()["version"] == example.version


def test_metrics_are_on_their_own_port_only(model: DockerContainer) -> None:
    """Whoever can predict cannot read the metrics, nor the other way round."""
    assert httpx.get(url(model, 8000, "/metrics")).status_code == 404
    assert "model_info{" in httpx.get(url(model, 8001, "/metrics")).text
    assert "model_version" not in httpx.post(url(model, 8001, "/predict"), json={}).text


def test_health_check_of_the_image_succeeds(model: DockerContainer) -> None:
    """Docker itself finds the service healthy."""
    name = model.get_container_id()

    eventually(
        lambda: inspect(name)["State"]["Health"]["Status"] == "healthy", "Docker says healthy"
    )


def test_probe_says_in_one_line_that_nothing_answers(model: DockerContainer) -> None:
    """A failed health check reads well in `docker inspect`."""
    result = model.exec(["python", "/srv/probe.py", "1", "/readyz"])

    assert result.exit_code == 1
    assert result.output.decode() == "/readyz: [Errno 111] Connection refused\n"


def test_model_stops_cleanly_on_sigterm(image: str) -> None:
    """`docker stop` ends it with 0 and no traceback."""
    with hardened(image) as started:
        wait_until_ready(started)
        docker("stop", "--time", "40", started.get_container_id())
        code, errors = ended(started)

    assert code == 0
    assert not [line for line in errors if "Traceback" in line]


def test_missing_bundle_is_one_line(image: str) -> None:
    """A wrong MODEL_BUNDLE ends the container at once, and says so."""
    with hardened(image).with_env("MODEL_BUNDLE", "/nowhere") as started:
        code, errors = ended(started)

    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("model: ")
    assert "/nowhere" in errors[0]


def test_unwritable_metrics_directory_is_one_line(image: str) -> None:
    """A forgotten tmpfs ends the container at once, and says so."""
    with container(image, **HARDENED) as started:
        code, errors = ended(started)

    assert code == 1
    assert len(errors) == 1
    assert errors[0].startswith("model: PROMETHEUS_MULTIPROC_DIR: /run/model-metrics ")


def test_logs_are_json_lines(model: DockerContainer) -> None:
    """Whatever collects the container's logs can read every line."""
    entries = [set(json.loads(line)) for line in logs(model).splitlines()]

    assert {"time", "level", "message"} <= set.intersection(*entries)
