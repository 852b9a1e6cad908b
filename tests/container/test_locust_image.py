"""The client's image: small, locked up, and without a model."""

import pytest

from tests.support.docker import built, docker, inspect

pytestmark = pytest.mark.timeout(900)  # the first test builds the image


@pytest.fixture(scope="module")
def image() -> str:
    """Return the built image's name."""
    return built("locust")


def test_image_runs_as_a_numbered_user_without_a_shell_in_between(image: str) -> None:
    """Kubernetes can tell that it is not root, and signals reach locust."""
    config = inspect(image)["Config"]

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["locust"]
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/srv/probe.py", "9646", "/metrics"]
    assert {"8089/tcp", "9646/tcp"} == set(config["ExposedPorts"])


def test_image_holds_the_rows_and_no_model(image: str) -> None:
    """The client has the bundle's rows, and neither the service nor what it needs."""
    ask = (
        "import importlib.util, pathlib, sys;"
        "print(sorted(path.name for path in pathlib.Path('/srv/bundle').iterdir()),"
        " [m for m in sys.argv[1:] if importlib.util.find_spec(m)])"
    )
    modules = ("locust", "sklearn", "numpy", "serving", "bundle", "example", "pip")

    found = docker("run", "--rm", "--entrypoint", "python", image, "-c", ask, *modules)

    assert found == "['bundle.json', 'drifted.csv', 'held_out.csv'] ['locust']"


def test_image_has_the_bundle_of_the_models_image(image: str) -> None:
    """Both are made of one training, so that the traffic fits the model."""
    read = ("run", "--rm", "--entrypoint", "cat")

    ours, theirs = (
        docker(*read, each, "/srv/bundle/bundle.json") for each in (image, built("model"))
    )
    assert ours == theirs


def test_locust_finds_its_user_on_a_read_only_root(image: str) -> None:
    """The locustfile and all it imports are in the image."""
    found = docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", image, "--list")  # noqa: S108

    assert found.split("\n")[-1].split() == ["ModelUser"]
