"""The workflows publish what the manifests ask for, with no more rights than that takes."""

import re
from typing import Any

import pytest
import yaml

from tools import ROOT, images

Json = dict[Any, Any]

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
# Versions that were seen released, and no branch.
RELEASE = re.compile(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+")


def workflow(name: str) -> Json:
    """Return a workflow."""
    loaded: Json = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    return loaded


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_a_released_version(path: Any) -> None:  # noqa: ANN401 pytest's own
    """None follows a branch, which may change under us."""
    used = [
        step["uses"]
        for job in workflow(path.name)["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    ]

    assert used
    assert [action for action in used if not RELEASE.fullmatch(action)] == []


def test_rights_are_the_least_that_will_do() -> None:
    """Tests may read; publishing may write packages, and nothing else."""
    publishing = workflow("images.yml")

    assert workflow("ci.yml")["permissions"] == {"contents": "read"}
    assert publishing["permissions"] == {}
    assert publishing["jobs"]["publish"]["permissions"] == {
        "contents": "read",
        "packages": "write",
    }


def test_ci_runs_the_readmes_commands() -> None:
    """What a person types, and nothing of its own."""
    steps = [step.get("run") for step in workflow("ci.yml")["jobs"]["test"]["steps"]]

    assert {"./task lint", "./task test"} <= set(steps)


def test_every_image_is_published_under_the_name_that_production_asks_for() -> None:
    """One matrix entry for each image, ghcr.io/<repository>/<service>, two platforms."""
    job = workflow("images.yml")["jobs"]["publish"]
    inputs = {
        step["uses"].partition("@")[0]: step["with"] for step in job["steps"] if "with" in step
    }

    assert images.services() == job["strategy"]["matrix"]["service"]
    assert inputs["docker/metadata-action"]["images"] == (
        "ghcr.io/${{ github.repository }}/${{ matrix.service }}"
    )
    build = inputs["docker/build-push-action"]
    assert (build["file"], build["target"]) == ("services/Dockerfile", "${{ matrix.service }}")
    assert (build["platforms"], build["sbom"]) == (images.PLATFORMS, True)
    assert build["provenance"] == "mode=max"


def test_a_laptop_publishes_what_the_workflow_does() -> None:
    """The same file, target, platforms and attestations."""
    command = images.publish_command("model", "ghcr.io/me/ml-monitoring/model:0.1.0")

    assert command[command.index("--file") + 1] == "services/Dockerfile"
    assert command[command.index("--target") + 1] == "model"
    assert {
        images.PLATFORMS,
        "--sbom=true",
        "--provenance=mode=max",
        "--push",
    } <= set(command)


def test_without_a_registry_nothing_is_pushed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which variable names it."""
    monkeypatch.delenv("IMAGE_PREFIX", raising=False)

    assert images.main(["--push"]) == 1
    assert "IMAGE_PREFIX names no registry" in capsys.readouterr().err
