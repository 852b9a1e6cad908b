"""The commands of `./task k8s:…`, with stand-ins for the tools that they call."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.k8s import build, every_container
from tools import ROOT, k8s

STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\n'


class Machine:
    """A PATH with stand-ins, and the calls that they recorded."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._calls = directory / "calls"
        self._calls.touch()

    def install(self, tool: str, script: str = STAND_IN) -> None:
        """Put a stand-in on PATH."""
        path = self._bin / tool
        path.write_text(script)
        path.chmod(0o755)

    def step(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a step of tools.k8s."""
        environment = {"PATH": f"{self._bin}:/usr/bin:/bin", "CALLS": str(self._calls)}
        return subprocess.run(
            [sys.executable, "-m", "tools.k8s", name],
            cwd=ROOT,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """The recorded commands in order, except reads."""
        return [call for call in self._calls.read_text().splitlines() if " get " not in call]


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for tool in ("docker", "helm", "minikube"):
        machine.install(tool)
    machine.install("kubectl", STAND_IN + "echo something\n")
    return machine


def test_minikube_runs_every_step_in_order(machine: Machine) -> None:
    """It starts the cluster, then installs the chart, the images and the manifests, and waits."""
    done = machine.step("minikube")

    assert done.returncode == 0, done.stderr
    assert [" ".join(call.split()[:2]) for call in machine.calls] == [
        "minikube start",
        "helm upgrade",
        "docker compose",
        "minikube --profile",
        "minikube --profile",
        "kubectl --context",
        "kubectl --context",
    ]
    assert all("ml-monitoring" in call for call in machine.calls if "docker" not in call)
    assert done.stdout.splitlines()[-1].startswith("the stack is up")


def test_the_images_loaded_are_those_of_the_manifests(machine: Machine) -> None:
    """The images that are built and loaded are those of the overlay's workloads."""
    assert machine.step("images").returncode == 0

    loaded = {call.rpartition(" ")[2] for call in machine.calls if "image load" in call}
    assert loaded == {
        container["image"] for _, container in every_container(build("overlays/minikube"))
    }


def test_the_chart_is_pinned_and_uses_our_files(machine: Machine) -> None:
    """It has an exact version, the overlay's values and the repository's Alertmanager config."""
    assert machine.step("monitoring").returncode == 0

    (call,) = machine.calls
    assert f"--version {k8s.CHART_VERSION}" in call
    values = ROOT / k8s.OVERLAY / "kube-prometheus-stack.yaml"
    assert f"--values {values.relative_to(ROOT)}" in call
    assert "alertmanager.stringConfig=prometheus/alertmanager.yml" in call
    assert yaml.safe_load(values.read_text())["alertmanager"]["tplConfig"] is True
    # With tplConfig, Helm would expand these templates itself.
    assert "{{" not in (ROOT / "prometheus/alertmanager.yml").read_text()


def test_a_failing_step_stops_the_following_steps(machine: Machine) -> None:
    """Nothing is applied to a cluster that did not start, and one line names the failed command."""
    machine.install("minikube", "#!/bin/sh\nexit 7\n")

    done = machine.step("minikube")

    assert done.returncode == 1
    assert machine.calls == []
    assert done.stderr.splitlines()[-1].startswith("k8s:minikube: `minikube start --profile …`")


def test_a_missing_secret_file_is_explained(machine: Machine) -> None:
    """The error names the missing file and the example to copy."""
    if (ROOT / "k8s/secrets/fiddler/fiddler.secret").exists():
        pytest.skip("this checkout has its secrets")

    done = machine.step("fiddler")

    assert done.returncode == 1
    assert done.stderr.strip() == (
        "k8s:fiddler: k8s/secrets/fiddler/fiddler.secret is missing:"
        " copy k8s/secrets/fiddler/fiddler.secret.example and fill it in"
    )


def test_a_cluster_without_the_operator_is_explained(machine: Machine) -> None:
    """If the cluster has no ServiceMonitors, the error names the task that installs them."""
    machine.install("kubectl", "#!/bin/sh\nexit 1\n")

    done = machine.step("apply")

    assert done.returncode == 1
    assert "`./task k8s:monitoring`" in done.stderr


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    """The error names the missing tool and a URL where it is available."""
    if Path("/usr/bin/helm").exists():
        pytest.skip("helm is where it cannot be hidden")
    done = Machine(tmp_path).step("monitoring")

    assert done.returncode == 1
    assert done.stderr.startswith("k8s:monitoring: helm is not installed: https://")


def test_the_examples_of_secrets_hold_no_secret() -> None:
    """The values are empty, except for the user name."""
    examples = sorted((ROOT / "k8s").rglob("*.example"))

    assert [example.name for example in examples] == [
        "fiddler.secret.example",
        "grafana.secret.example",
    ]
    for example in examples:
        values = dict(line.split("=") for line in example.read_text().splitlines())
        assert set(values.values()) <= {"", "admin"}
