"""The commands of `./task k8s:…`, with stand-ins for the tools that they call."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.support.k8s import build, every_container
from tests.support.machine import require
from tools import ROOT, k8s

STAND_IN = '#!/bin/sh\necho "$(basename "$0") $*" >>"$CALLS"\n'
# Answers what `docker image inspect` is asked for.
DOCKER = STAND_IN + 'case "$*" in *inspect*) echo "sha256:$DIGEST";; esac\n'
CHANGED = DOCKER.replace("in *insp", "in *inspect*locust*) echo sha256:fedcba9876543210;; *insp")
# Keeps what it is given on stdin.
KUBECTL = STAND_IN + 'case "$*" in *" -") cat >>"$GIVEN";; esac\necho something\n'
DIGEST = "0123456789abcdef"


class Machine:
    """A PATH with stand-ins, and the calls that they recorded."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        self._calls = directory / "calls"
        self._calls.touch()
        self.given = directory / "given"
        self.var = directory / "var"

    def install(self, tool: str, script: str = STAND_IN) -> None:
        """Put a stand-in on PATH."""
        path = self._bin / tool
        path.write_text(script)
        path.chmod(0o755)

    def step(self, name: str, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a step of tools.k8s."""
        environment = {
            "PATH": f"{self._bin}:/usr/bin:/bin",
            "CALLS": str(self._calls),
            "GIVEN": str(self.given),
            "DIGEST": DIGEST,
            "STACK_VAR": str(self.var),
            "SLACK_WEBHOOK_FILE": "",
        }
        return subprocess.run(
            [sys.executable, "-m", "tools.k8s", name, *options],
            cwd=ROOT,
            env={**os.environ, **environment, **variables},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        """The recorded commands in order, except reads."""
        calls = self._calls.read_text().splitlines()
        return [call for call in calls if " get " not in call and " inspect " not in call]

    def overlay(self, context: str = k8s.PROFILE) -> Path:
        """Return the overlay that was generated for a cluster."""
        return self.var / "k8s" / context


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    for tool in ("helm", "kind", "minikube"):
        machine.install(tool)
    machine.install("docker", DOCKER)
    machine.install("kubectl", KUBECTL)
    return machine


def test_minikube_runs_every_step_in_order(machine: Machine) -> None:
    """It starts the cluster, then installs the chart, the images and the manifests, and waits."""
    done = machine.step("minikube")

    assert done.returncode == 0, done.stderr
    steps = [
        *["minikube start", "kubectl apply", "helm upgrade", "kubectl apply", "docker compose"],
        *["docker tag", "minikube image", "minikube image", "docker image"] * 2,
        *["kubectl delete", "kubectl apply", "kubectl wait"],
    ]
    assert [shortened(call) for call in machine.calls] == steps
    assert all("ml-monitoring" in call for call in machine.calls if "docker" not in call)
    assert done.stdout.splitlines()[-1].startswith("the stack is up")


def shortened(call: str) -> str:
    """Return a tool and its command, without the cluster."""
    words = call.replace("--profile ml-monitoring ", "").replace("--context ml-monitoring ", "")
    return " ".join(words.split()[:2])


def test_the_images_loaded_are_those_of_the_manifests(machine: Machine) -> None:
    """Each has the tag of the manifests, and one of its content, which the overlay refers to."""
    assert machine.step("images").returncode == 0

    manifests = {container["image"] for _, container in every_container(build("overlays/minikube"))}
    loaded = {call.split()[-1] for call in machine.calls if "image load" in call}
    renamed = {call.split()[-1] for call in machine.calls if "image tag" in call}
    assert renamed == manifests
    assert loaded == {f"{image}-{DIGEST[:12]}" for image in manifests}


def images_of(machine: Machine) -> set[str]:
    """Return the images of the generated overlay."""
    command = [require("kustomize"), "build", str(machine.overlay())]
    built = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = tuple(yaml.load_all(built, Loader=yaml.CSafeLoader))
    return {container["image"] for _, container in every_container(objects)}


def test_an_apply_rolls_what_has_changed(machine: Machine) -> None:
    """An image of other content has another tag, so its pods are replaced; others stay."""
    assert machine.step("images").returncode == 0
    first = images_of(machine)
    machine.install("docker", CHANGED)
    assert machine.step("images").returncode == 0
    assert machine.step("apply").returncode == 0

    assert f"--kustomize {machine.overlay()}" in machine.calls[-1]
    assert {image.rpartition("/")[2].partition(":")[0] for image in images_of(machine) - first} == {
        "locust"
    }


def test_an_apply_without_loaded_images_is_that_of_the_overlay(machine: Machine) -> None:
    """The tag of the manifests is used where nothing is known of a cluster's images."""
    assert machine.step("apply").returncode == 0

    assert images_of(machine) == {
        container["image"] for _, container in every_container(build("overlays/minikube"))
    }


def test_another_image_of_the_job_can_be_applied(machine: Machine) -> None:
    """A Job's template is immutable, so the old one goes first."""
    assert machine.step("apply").returncode == 0

    assert machine.calls[0].endswith(
        "delete job prediction-key --namespace ml-monitoring --ignore-not-found"
    )


def test_deleting_needs_no_job(machine: Machine) -> None:
    """The Job deletes itself a minute after its end, which is no error."""
    assert machine.step("delete").returncode == 0

    assert machine.calls[-1].endswith(f"delete --kustomize {k8s.OVERLAY} --ignore-not-found")


def test_a_cluster_of_kind_can_be_used(machine: Machine) -> None:
    """Its images are loaded by kind, and every command names its context."""
    for step in ("monitoring", "images", "apply"):
        done = machine.step(step, "--context", "kind-ci")
        assert done.returncode == 0, done.stderr

    loads = [call for call in machine.calls if call.startswith("kind ")]
    assert [call.split()[:5] for call in loads] == [
        ["kind", "load", "docker-image", "--name", "ci"]
    ] * 2
    assert not [call for call in machine.calls if call.startswith("minikube")]
    assert all(
        "--context kind-ci" in call or "--kube-context kind-ci" in call
        for call in machine.calls
        if call.startswith(("kubectl", "helm"))
    )
    assert machine.step("down", "--context", "kind-ci").stderr.strip() == (
        "k8s:down: kind-ci is not a cluster of minikube"
    )


def test_slack_is_set_up_by_the_variable_of_the_other_stacks(
    machine: Machine, tmp_path: Path
) -> None:
    """SLACK_WEBHOOK_FILE becomes a Secret, and is in the arguments of no process."""
    webhook = tmp_path / "slack.secret"
    webhook.write_text("https://example.org/hook")

    assert machine.step("monitoring", SLACK_WEBHOOK_FILE=str(webhook)).returncode == 0

    secret = json.loads(machine.given.read_text())
    (call,) = [call for call in machine.calls if call.startswith("helm")]
    encoded = base64.b64encode(webhook.read_bytes()).decode()
    assert secret["data"] == {"slack_webhook_url": encoded}
    assert secret["metadata"] == {"name": k8s.RECEIVERS, "namespace": k8s.MONITORING}
    assert f"--values {k8s.SLACK_VALUES}" in call
    assert "stringConfig" not in call
    assert all(text not in "".join(machine.calls) for text in ("example.org", encoded))
    values = yaml.safe_load((ROOT / k8s.SLACK_VALUES).read_text())
    (volume,) = values["alertmanager"]["alertmanagerSpec"]["volumes"]
    assert volume["secret"]["secretName"] == k8s.RECEIVERS


def test_a_missing_slack_file_is_named(machine: Machine) -> None:
    """Nothing is installed without it."""
    done = machine.step("monitoring", SLACK_WEBHOOK_FILE="nowhere.secret")

    assert done.stderr.strip() == (
        "k8s:monitoring: SLACK_WEBHOOK_FILE=nowhere.secret: there is no such file"
    )
    assert not [call for call in machine.calls if call.startswith("helm")]


def test_alerts_link_to_the_forwarded_pages(machine: Machine) -> None:
    """The external URLs are those of k8s:forward, and the runbooks are applied."""
    assert machine.step("monitoring", PROMETHEUS_PORT="19090").returncode == 0

    (helm,) = [call for call in machine.calls if call.startswith("helm")]
    assert "prometheus.prometheusSpec.externalUrl=http://127.0.0.1:19090" in helm
    assert "alertmanager.alertmanagerSpec.externalUrl=http://127.0.0.1:9093" in helm
    assert machine.calls[-1].endswith("apply --kustomize prometheus/consoles")


def test_the_chart_is_pinned_and_uses_our_files(machine: Machine) -> None:
    """It has an exact version, the overlay's values and the repository's Alertmanager config."""
    assert machine.step("monitoring").returncode == 0

    (call,) = [call for call in machine.calls if call.startswith("helm")]
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
    assert done.stderr.splitlines()[-1].startswith(
        "k8s:minikube: `minikube --profile ml-monitoring …`"
    )


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
    machine = Machine(tmp_path)
    machine.install("kubectl", KUBECTL)
    done = machine.step("monitoring")

    assert done.returncode == 1
    assert done.stderr.startswith("k8s:monitoring: helm is not installed: https://")


def test_the_examples_of_secrets_hold_no_secret() -> None:
    """The values are empty, except for the user name."""
    examples = sorted((ROOT / "k8s").rglob("*.example"))

    assert [example.name for example in examples] == [
        "fiddler.secret.example",
        "grafana.secret.example",
        "prediction-log.secret.example",
    ]
    for example in examples:
        values = dict(line.split("=") for line in example.read_text().splitlines())
        assert set(values.values()) <= {"", "admin"}
