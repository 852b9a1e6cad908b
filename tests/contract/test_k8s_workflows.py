"""The workflows publish the images of the manifests, with minimal permissions."""

import re
from typing import Any

import pytest
import yaml

from tests.contract.test_k8s_score import SOURCE as KUBE_SCORE
from tests.support import crds
from tools import ROOT, images

Json = dict[Any, Any]

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
# A full version; branches and major tags move.
RELEASE = re.compile(r"[\w-]+/[\w-]+@v\d+\.\d+\.\d+")


def workflow(name: str) -> Json:
    """Return a workflow."""
    loaded: Json = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    return loaded


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_action_is_a_released_version(path: Any) -> None:  # noqa: ANN401 pytest's own
    """No action is referenced by a branch or a major tag."""
    used = [
        step["uses"]
        for job in workflow(path.name)["jobs"].values()
        for step in job["steps"]
        if "uses" in step
    ]

    assert used
    assert [action for action in used if not RELEASE.fullmatch(action)] == []


def test_permissions_are_minimal() -> None:
    """Tests may read the contents, and publishing may also write packages."""
    publishing = workflow("images.yml")

    assert workflow("ci.yml")["permissions"] == {"contents": "read"}
    assert publishing["permissions"] == {}
    assert publishing["jobs"]["publish"]["permissions"] == {
        "contents": "read",
        "packages": "write",
    }


def test_ci_runs_the_readmes_commands() -> None:
    """The job runs `./task lint` and `./task test`."""
    steps = [step.get("run") for step in workflow("ci.yml")["jobs"]["test"]["steps"]]

    assert {"./task lint", "./task test"} <= set(steps)


def test_ci_runs_the_tests_of_a_cluster() -> None:
    """A cluster of kind gets the chart and the images before the tests of its tier run."""
    steps = [step.get("run", "") for step in workflow("ci.yml")["jobs"]["cluster"]["steps"]]
    context = "-- --context kind-ci"

    assert [step for step in steps if step] == [
        "kind create cluster --name ci --wait 120s",
        f"./task k8s:monitoring {context}",
        f"./task k8s:images {context}",
        f"./task test:cluster {context}",
    ]


def test_ci_has_the_checkers_that_the_tests_would_skip_without() -> None:
    """The published schemas and kube-score, in the versions that the tests name."""
    steps = [step.get("run", "") for step in workflow("ci.yml")["jobs"]["test"]["steps"]]
    got = (ROOT / ".ci" / "go-tools.sh").read_text()

    wanted = {each.source for each in crds.DEFINITIONS.values()}
    assert set(re.findall(r"\S+/\S+@v\S+", got)) == {KUBE_SCORE, *wanted}
    assert any(".ci/go-tools.sh" in each for each in steps)
    assert "\ntimed .ci/go-tools.sh\n" in (ROOT / ".ci" / "run").read_text()


def test_every_image_is_published_under_the_name_that_production_uses() -> None:
    """Each Dockerfile's image is published as ghcr.io/<repository>/<service> for two platforms."""
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
    assert build["build-args"] == "MODEL_LIBRARIES=${{ vars.MODEL_LIBRARIES }}"


def test_the_local_command_publishes_like_the_workflow() -> None:
    """The command has the same Dockerfile, platforms and attestations."""
    command = images.publish_command("model", "ghcr.io/me/ml-monitoring/model:0.1.0", "skops")

    assert command[command.index("--file") + 1] == "services/Dockerfile"
    assert command[command.index("--target") + 1] == "model"
    assert command[command.index("--build-arg") + 1] == "MODEL_LIBRARIES=skops"
    assert {
        images.PLATFORMS,
        "--sbom=true",
        "--provenance=mode=max",
        "--push",
    } <= set(command)


def test_without_a_registry_nothing_is_pushed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is one line that names the missing variable."""
    monkeypatch.delenv("IMAGE_PREFIX", raising=False)

    assert images.main(["--push"]) == 1
    assert "IMAGE_PREFIX names no registry" in capsys.readouterr().err
