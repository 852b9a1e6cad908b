"""Run the stack on a Kubernetes of one's own: python -m tools.k8s STEP.

Every step is one that a person could type, and can be run again; `minikube` runs those that make a
stack, in order. All of it lives in a minikube profile of its own: other clusters are not touched.
"""

import argparse
import base64
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tools import ROOT, command
from tools.stack.services import table
from tools.stack.settings import StackError, load_settings

PROFILE = "ml-monitoring"
NAMESPACE = "ml-monitoring"
MONITORING = "monitoring"
RELEASE = "prometheus-stack"
CHART = "kube-prometheus-stack"
CHARTS = "https://prometheus-community.github.io/helm-charts"
CHART_VERSION = "88.5.4"

OVERLAY = Path("k8s/overlays/minikube")
SECRETS = Path("k8s/secrets")

_TOOLS = {
    "minikube": "https://minikube.sigs.k8s.io/docs/start",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
    "docker": "https://docs.docker.com/engine/install",
}


class Page(NamedTuple):
    """What one opens, and the variable of the port on this machine."""

    name: str
    namespace: str
    service: str
    port: int
    variable: str


_STACK = f"{RELEASE}-kube-prom"  # as the chart shortens its own name
_PAGES = (
    Page("model", NAMESPACE, "model", 8000, "MODEL_PORT"),
    Page("locust", NAMESPACE, "locust", 8089, "LOCUST_PORT"),
    Page("prometheus", MONITORING, f"{_STACK}-prometheus", 9090, "PROMETHEUS_PORT"),
    Page("alertmanager", MONITORING, f"{_STACK}-alertmanager", 9093, "ALERTMANAGER_PORT"),
    Page("grafana", MONITORING, f"{RELEASE}-grafana", 80, "GRAFANA_PORT"),
)


def cluster() -> None:
    """Start the cluster."""
    _run("minikube", "start", "--profile", PROFILE, "--memory", "6g", "--cpus", "2")


def monitoring() -> None:
    """Install Prometheus, Alertmanager, Grafana and the operator."""
    given: list[str] = []
    secret = SECRETS / "grafana/grafana.secret"
    if (ROOT / secret).exists():
        _check_secret(secret)
        _kubectl("apply", "--kustomize", str(SECRETS / "grafana"))
        given = ["--set", "grafana.admin.existingSecret=grafana-admin"]
    _run(
        *("helm", "upgrade", "--install", RELEASE, CHART, "--repo", CHARTS),
        *("--version", CHART_VERSION, "--kube-context", PROFILE),
        *("--namespace", MONITORING, "--create-namespace"),
        *("--values", str(OVERLAY / "kube-prometheus-stack.yaml")),
        *("--set-file", "alertmanager.stringConfig=prometheus/alertmanager.yml"),
        *given,
        *("--wait", "--timeout", "10m"),
    )


def images(*names: str) -> None:
    """Build the images and load them into the cluster."""
    names = names or ("model", "locust")
    _run("docker", "compose", "build", *names, environment=_image_variables())
    for name in names:
        _run("minikube", "--profile", PROFILE, "image", "load", image(name))


def apply() -> None:
    """Apply overlays/minikube."""
    _need_operator()
    _kubectl("apply", "--kustomize", str(OVERLAY))


def wait() -> None:
    """Wait until every Deployment is available."""
    try:
        _kubectl(
            *("wait", "--namespace", NAMESPACE, "--for", "condition=Available"),
            *("--timeout", "300s", "deployment", "--all"),
        )
    except StackError as error:
        raise StackError("not all pods became ready: `./task k8s:doctor` shows why") from error


def forward() -> None:
    """Show every page on this machine, until interrupted."""
    pages = _pages()
    if not pages:
        raise StackError("the cluster shows no Service of ours: `./task k8s:minikube`")
    ports = load_settings().ports
    processes = [_forward(page, ports[page.variable]) for page in pages]
    print(table([(page.name, f"http://127.0.0.1:{ports[page.variable]}") for page in pages]))
    print(_grafana_password(), flush=True)
    try:
        processes[0].wait()  # as long as the cluster is there, and nobody interrupts
    except KeyboardInterrupt:
        print()
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def fiddler() -> None:
    """Apply overlays/minikube with the publisher to Fiddler."""
    _check_secret(SECRETS / "fiddler/fiddler.secret")
    _need_operator()
    images("publisher")
    _kubectl("apply", "--kustomize", "k8s/overlays/minikube-fiddler")
    wait()


def down() -> None:
    """Stop the cluster; its data stays."""
    _run("minikube", "stop", "--profile", PROFILE)


def clean() -> None:
    """Delete the cluster with everything in it."""
    _run("minikube", "delete", "--profile", PROFILE)


def minikube() -> None:
    """Make the whole stack: every step up to the URLs."""
    for step in (cluster, monitoring, images, apply, wait):
        print(f"── {step.__doc__}")
        step()
    print("the stack is up; `./task k8s:forward` shows it on this machine")


STEPS: Mapping[str, Callable[[], None]] = {
    step.__name__: step
    for step in (
        *(minikube, cluster, monitoring, images, apply, wait),
        *(forward, fiddler, down, clean),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one step; a StackError is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="tools.k8s", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    step = parser.parse_args(arguments).step
    try:
        STEPS[step]()
    except StackError as error:
        print(f"k8s:{step}: {error}", file=sys.stderr)
        return 1
    return 0


def image(name: str) -> str:
    """Return the full name of an image of ours, as the manifests have it."""
    variables = _image_variables()
    return f"{variables['IMAGE_PREFIX']}/{name}:{variables['IMAGE_TAG']}"


def _image_variables() -> dict[str, str]:
    """Return Compose's variables for the names in the manifests, whatever .env sets."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {"IMAGE_PREFIX": "ml-monitoring", "IMAGE_TAG": project["version"]}


def _need_operator() -> None:
    known = _output("get", "crd", "servicemonitors.monitoring.coreos.com", "--output", "name")
    if not known:
        raise StackError(
            "the cluster does not answer, or knows no ServiceMonitor:"
            " `./task k8s:cluster`, then `./task k8s:monitoring`"
        )


def _check_secret(file: Path) -> None:
    """Raise StackError where a file of secrets is missing or not filled in."""
    if not (ROOT / file).exists():
        raise StackError(f"{file} is missing: copy {file}.example and fill it in")
    for line in (ROOT / file).read_text().splitlines():
        key, _, value = line.partition("=")
        if not value.strip() and not line.startswith("#") and line:
            raise StackError(f"{file}: {key} has no value")


def _pages() -> list[Page]:
    """Return the pages whose Services are there: the load test is optional."""
    return [
        page for page in _PAGES if _output("get", "service", page.service, "-n", page.namespace)
    ]


def _forward(page: Page, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *("kubectl", "--context", PROFILE, "--namespace", page.namespace, "port-forward"),
            *(f"service/{page.service}", f"{port}:{page.port}"),
        ],
        stdout=subprocess.DEVNULL,
    )


def _grafana_password() -> str:
    """Return the line with the password: the given one, or the chart's."""
    for secret in ("grafana-admin", f"{RELEASE}-grafana"):
        path = "jsonpath={.data.admin-password}"
        encoded = _output("get", "secret", secret, "-n", MONITORING, "--output", path)
        if encoded:
            return f"Grafana: user admin, password {base64.b64decode(encoded).decode()}"
    return "Grafana: its password is in no Secret that we know"


def _kubectl(*words: str) -> None:
    _run("kubectl", "--context", PROFILE, *words)


def _output(*words: str) -> str:
    """Return what kubectl prints; nothing where it fails."""
    _need("kubectl")
    done = subprocess.run(
        ["kubectl", "--context", PROFILE, *words], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def _run(*command: str, environment: Mapping[str, str] | None = None) -> None:
    """Show a command and carry it out in the checkout. Raises StackError."""
    _need(command[0])
    print(f"$ {' '.join(command)}", flush=True)
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise StackError(f"`{' '.join(command[:3])} …` failed; its own message is above")


def _need(tool: str) -> None:
    if not shutil.which(tool):
        raise StackError(f"{tool} is not installed: {_TOOLS[tool]}")


if __name__ == "__main__":
    command.run(main)
