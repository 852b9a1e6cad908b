"""What `./task k8s:…` does, with stand-ins for the tools it calls."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools import ROOT, k8s

STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\n'


class Machine:
    """A PATH with some stand-ins, and what was called of them."""

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
        """Run one step."""
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
        """The commands that changed something, in order."""
        return [call for call in self._calls.read_text().splitlines() if " get " not in call]


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for tool in ("docker", "helm", "minikube"):
        machine.install(tool)
    machine.install("kubectl", STAND_IN + "echo something\n")
    return machine


def test_minikube_does_everything_in_order(machine: Machine) -> None:
    """Cluster, chart, images, manifests, wait: each in the profile of our own."""
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
    """What is built and loaded is what the Deployments ask for."""
    assert machine.step("images").returncode == 0

    loaded = [call.rpartition(" ")[2] for call in machine.calls if "image load" in call]
    assert loaded == [k8s.image("model"), k8s.image("locust")]


def test_the_chart_is_pinned_and_gets_our_files(machine: Machine) -> None:
    """One exact version, the overlay's values, and Alertmanager's own configuration."""
    assert machine.step("monitoring").returncode == 0

    (call,) = machine.calls
    assert f"--version {k8s.CHART_VERSION}" in call
    values = ROOT / k8s.OVERLAY / "kube-prometheus-stack.yaml"
    assert f"--values {values.relative_to(ROOT)}" in call
    assert "alertmanager.stringConfig=prometheus/alertmanager.yml" in call
    assert yaml.safe_load(values.read_text())["alertmanager"]["tplConfig"] is True
    # Helm would read them as templates of its own.
    assert "{{" not in (ROOT / "prometheus/alertmanager.yml").read_text()


def test_a_failing_step_ends_the_others(machine: Machine) -> None:
    """Nothing is applied to a cluster that did not start, and one line says which step failed."""
    machine.install("minikube", "#!/bin/sh\nexit 7\n")

    done = machine.step("minikube")

    assert done.returncode == 1
    assert machine.calls == []
    assert done.stderr.splitlines()[-1].startswith("k8s:minikube: `minikube start --profile …`")


def test_a_missing_file_of_secrets_is_explained(machine: Machine) -> None:
    """The step says which file to copy from where."""
    if (ROOT / "k8s/secrets/fiddler/fiddler.secret").exists():
        pytest.skip("this checkout has its secrets")

    done = machine.step("fiddler")

    assert done.returncode == 1
    assert done.stderr.strip() == (
        "k8s:fiddler: k8s/secrets/fiddler/fiddler.secret is missing:"
        " copy k8s/secrets/fiddler/fiddler.secret.example and fill it in"
    )


def test_a_cluster_without_the_operator_is_explained(machine: Machine) -> None:
    """Without ServiceMonitors kubectl's own message would not say what to do."""
    machine.install("kubectl", "#!/bin/sh\nexit 1\n")

    done = machine.step("apply")

    assert done.returncode == 1
    assert "`./task k8s:monitoring`" in done.stderr


def test_a_missing_tool_is_named(tmp_path: Path) -> None:
    """And where to get it."""
    if Path("/usr/bin/helm").exists():
        pytest.skip("helm is where it cannot be hidden")
    done = Machine(tmp_path).step("monitoring")

    assert done.returncode == 1
    assert done.stderr.startswith("k8s:monitoring: helm is not installed: https://")


def test_the_examples_of_secrets_hold_no_secret() -> None:
    """Each names what is to be filled in, and nothing else."""
    examples = sorted((ROOT / "k8s").rglob("*.example"))

    assert [example.name for example in examples] == [
        "fiddler.secret.example",
        "grafana.secret.example",
    ]
    for example in examples:
        given = dict(line.split("=") for line in example.read_text().splitlines())
        assert set(given.values()) <= {"", "admin"}
