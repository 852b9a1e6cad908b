"""The image of the traffic: what it contains, and how it runs."""

import pytest

from tests.support.docker import built, check_command, docker, importable

pytestmark = pytest.mark.timeout(900)  # the first test builds the image


@pytest.fixture(scope="module")
def image() -> str:
    """Return the built image's name."""
    return built("locust")


def test_the_image_runs_as_a_numbered_user_without_a_shell(image: str) -> None:
    """Locust is the entrypoint, and its exporter is the health check."""
    check_command(image, ["locust"], ("9646", "/metrics"), "8089", "9646")


def test_the_image_contains_the_rows_and_no_model(image: str) -> None:
    """The image contains neither the service nor its libraries."""
    modules = ("locust", "sklearn", "numpy", "serving", "bundle", "example", "pip")
    files = docker("run", "--rm", "--entrypoint", "ls", image, "/srv/bundle").split()

    assert sorted(files) == ["bundle.json", "drifted.csv", "held_out.csv"]
    assert importable(image, *modules) == ["locust"]


def test_the_image_has_the_bundle_of_the_models_image(image: str) -> None:
    """Both images use the same training, so that the traffic fits the model."""
    read = ("run", "--rm", "--entrypoint", "cat")

    ours, theirs = (
        docker(*read, each, "/srv/bundle/bundle.json") for each in (image, built("model"))
    )
    assert ours == theirs


def test_locust_finds_its_user_on_a_read_only_root(image: str) -> None:
    """The locustfile and its imports are in the image."""
    found = docker("run", "--rm", "--read-only", "--tmpfs", "/tmp", image, "--list")  # noqa: S108

    assert found.split("\n")[-1].split() == ["ModelUser"]
