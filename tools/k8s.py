"""Run the stack on a Kubernetes of one's own: python -m tools.k8s STEP [--context NAME].

Every step is one that a person could type, and can be run again; `minikube` runs those that make a
stack, in order. All of it lives in a minikube profile of its own: other clusters are not touched
unless --context names one, such as kind-NAME.
"""

import argparse
import base64
import json
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
WITH_FIDDLER = Path("k8s/overlays/minikube-fiddler")
SECRETS = Path("k8s/secrets")
RUNBOOKS = Path("prometheus/consoles")
SLACK_VALUES = Path("prometheus/slack.values.yaml")
RECEIVERS = "alertmanager-receivers"

_TOOLS = {
    "minikube": "https://minikube.sigs.k8s.io/docs/start",
    "kind": "https://kind.sigs.k8s.io/docs/user/quick-start",
    "kubectl": "https://kubernetes.io/docs/tasks/tools",
    "helm": "https://helm.sh/docs/intro/install",
    "docker": "https://docs.docker.com/engine/install",
}
_KIND = "kind-"
"""The beginning of the contexts that kind makes; the cluster's name follows."""


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


class Cluster(NamedTuple):
    """A cluster, by its context in kubectl's configuration."""

    context: str = PROFILE

    def kubectl(self, *words: str, given: str | None = None) -> None:
        """Show a command of kubectl and carry it out, with a text on stdin. Raises StackError."""
        _run("kubectl", "--context", self.context, *words, given=given)

    def output(self, *words: str) -> str:
        """Return what kubectl prints; nothing where it fails."""
        _need("kubectl")
        done = subprocess.run(
            ["kubectl", "--context", self.context, *words],
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""


def cluster(where: Cluster) -> None:
    """Start the cluster."""
    _minikube(where, "start", "--memory", "6g", "--cpus", "2")


def monitoring(where: Cluster) -> None:
    """Install Prometheus, Alertmanager, Grafana and the operator."""
    where.kubectl("apply", "--filename", str(SECRETS / "grafana/namespace.yaml"))
    given = [*_alerting(where), *_administrator(where), *_urls()]
    _run(
        *("helm", "upgrade", "--install", RELEASE, CHART, "--repo", CHARTS),
        *("--version", CHART_VERSION, "--kube-context", where.context),
        *("--namespace", MONITORING),
        *("--values", str(OVERLAY / "kube-prometheus-stack.yaml")),
        *given,
        *("--wait", "--timeout", "10m"),
    )
    where.kubectl("apply", "--kustomize", str(RUNBOOKS))


def _alerting(where: Cluster) -> list[str]:
    """Return Helm's options for where alerts go; with Slack, create the Secret of its address."""
    given = load_settings().environment.get("SLACK_WEBHOOK_FILE")
    if not given:
        return ["--set-file", "alertmanager.stringConfig=prometheus/alertmanager.yml"]
    file = ROOT / Path(given).expanduser()
    if not file.is_file():
        raise StackError(f"SLACK_WEBHOOK_FILE={given}: there is no such file")
    data = {"slack_webhook_url": base64.b64encode(file.read_bytes()).decode()}
    metadata = {"name": RECEIVERS, "namespace": MONITORING}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    # On stdin, since other users of this machine can read the arguments of a process.
    where.kubectl("apply", "--filename", "-", given=json.dumps(secret))
    return ["--values", str(SLACK_VALUES)]


def _administrator(where: Cluster) -> list[str]:
    """Return Helm's options for the given password of Grafana, if there is one."""
    secret = SECRETS / "grafana/grafana.secret"
    if not (ROOT / secret).exists():
        return []
    _check_secret(secret)
    where.kubectl("apply", "--kustomize", str(SECRETS / "grafana"))
    return ["--set", "grafana.admin.existingSecret=grafana-admin"]


def _urls() -> list[str]:
    """Return Helm's options for the addresses that alerts link to: those of k8s:forward."""
    ports = load_settings().ports
    specs = {
        "prometheus.prometheusSpec": "PROMETHEUS_PORT",
        "alertmanager.alertmanagerSpec": "ALERTMANAGER_PORT",
    }
    return [
        word
        for spec, variable in specs.items()
        for word in ("--set", f"{spec}.externalUrl=http://127.0.0.1:{ports[variable]}")
    ]


def images(where: Cluster, *names: str) -> None:
    """Build the images and load them into the cluster."""
    names = names or ("model", "locust")
    _run("docker", "compose", "build", *names, environment=_image_variables())
    tags = _loaded(where)
    for name in names:
        tags[name] = _content_tag(name)
        _load(where, name, tags[name])
    _write_overlay(where, OVERLAY, tags)


def _content_tag(name: str) -> str:
    """Return a tag that changes with the image's content, so that an apply rolls its pods."""
    asked = ["docker", "image", "inspect", "--format", "{{.Id}}", image(name)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    digest = done.stdout.strip().removeprefix("sha256:")
    if done.returncode or not digest:
        raise StackError(f"{image(name)} was not built: {done.stderr.strip()}")
    return f"{_image_variables()['IMAGE_TAG']}-{digest[:12]}"


def _load(where: Cluster, name: str, tag: str) -> None:
    """Load an image under both tags: the manifests' own as well, for a plain `kubectl apply -k`."""
    tagged = f"{_image_variables()['IMAGE_PREFIX']}/{name}:{tag}"
    _run("docker", "tag", image(name), tagged)
    if where.context.startswith(_KIND):
        kind = where.context.removeprefix(_KIND)
        _run("kind", "load", "docker-image", "--name", kind, image(name), tagged)
    else:
        _minikube(where, "image", "load", tagged)
        _minikube(where, "image", "tag", tagged, image(name))
    _run("docker", "image", "rm", tagged)  # this machine needs the other tag only


def _overlay(where: Cluster) -> Path:
    """Return the directory of the generated overlay: the committed one with the loaded images."""
    return load_settings().var / "k8s" / where.context


def _loaded(where: Cluster) -> dict[str, str]:
    """Return the tags of the images that were loaded into a cluster, by service."""
    file = _overlay(where) / "kustomization.yaml"
    if not file.is_file():
        return {}
    known = json.loads(file.read_text())["images"]
    return {each["name"].rpartition("/")[2]: each["newTag"] for each in known}


def _write_overlay(where: Cluster, base: Path, tags: Mapping[str, str]) -> Path:
    directory = _overlay(where)
    directory.mkdir(parents=True, exist_ok=True)
    prefix = _image_variables()["IMAGE_PREFIX"]
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # Kustomize takes no absolute path.
        "resources": [os.path.relpath(ROOT / base, directory.resolve())],
        "images": [{"name": f"{prefix}/{name}", "newTag": tag} for name, tag in tags.items()],
    }
    # JSON is YAML as well.
    (directory / "kustomization.yaml").write_text(json.dumps(kustomization, indent=2) + "\n")
    return directory


def apply(where: Cluster, base: Path = OVERLAY) -> None:
    """Apply overlays/minikube with the images that are loaded."""
    _need_operator(where)
    # A Job cannot be changed, and its image may be another one now; it keeps an existing key.
    job = ("job", "prediction-key", "--namespace", NAMESPACE)
    where.kubectl("delete", *job, "--ignore-not-found")
    directory = _write_overlay(where, base, _loaded(where))
    where.kubectl("apply", "--kustomize", str(directory))


def delete(where: Cluster) -> None:
    """Delete what was applied; Prometheus and its history stay."""
    # The Job deletes itself, so not everything is there.
    where.kubectl("delete", "--kustomize", str(OVERLAY), "--ignore-not-found")


def wait(where: Cluster) -> None:
    """Wait until every Deployment is available."""
    try:
        where.kubectl(
            *("wait", "--namespace", NAMESPACE, "--for", "condition=Available"),
            *("--timeout", "300s", "deployment", "--all"),
        )
    except StackError as error:
        raise StackError("not all pods became ready: `./task k8s:doctor` shows why") from error


def forward(where: Cluster) -> None:
    """Show every page on this machine, until interrupted."""
    pages = _pages(where)
    if not pages:
        raise StackError("the cluster shows no Service of ours: `./task k8s:minikube`")
    ports = load_settings().ports
    processes = [_forward(where, page, ports[page.variable]) for page in pages]
    print(table([(page.name, f"http://127.0.0.1:{ports[page.variable]}") for page in pages]))
    print(_grafana_password(where), flush=True)
    try:
        processes[0].wait()  # as long as the cluster is there, and nobody interrupts
    except KeyboardInterrupt:
        print()
    finally:
        for process in processes:
            process.terminate()
            process.wait()


def fiddler(where: Cluster) -> None:
    """Apply overlays/minikube with the publisher to Fiddler."""
    _check_secret(SECRETS / "fiddler/fiddler.secret")
    _need_operator(where)
    images(where, "publisher")
    apply(where, WITH_FIDDLER)
    wait(where)


def down(where: Cluster) -> None:
    """Stop the cluster; its data stays."""
    _minikube(where, "stop")


def clean(where: Cluster) -> None:
    """Delete the cluster with everything in it."""
    _minikube(where, "delete")
    shutil.rmtree(_overlay(where), ignore_errors=True)  # it names images that were loaded there


def minikube(where: Cluster) -> None:
    """Make the whole stack: every step up to the URLs."""
    for step in (cluster, monitoring, images, apply, wait):
        print(f"── {step.__doc__}")
        step(where)
    print("the stack is up; `./task k8s:forward` shows it on this machine")


STEPS: Mapping[str, Callable[[Cluster], None]] = {
    step.__name__: step
    for step in (
        *(minikube, cluster, monitoring, images, apply, wait),
        *(forward, fiddler, delete, down, clean),
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one step; a StackError is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(prog="tools.k8s", description=__doc__)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument(
        "--context", default=PROFILE, help="kubectl's context; the minikube profile without this"
    )
    chosen = parser.parse_args(arguments)
    try:
        STEPS[chosen.step](Cluster(chosen.context))
    except StackError as error:
        print(f"k8s:{chosen.step}: {error}", file=sys.stderr)
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


def _need_operator(where: Cluster) -> None:
    known = where.output("get", "crd", "servicemonitors.monitoring.coreos.com", "--output", "name")
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


def _pages(where: Cluster) -> list[Page]:
    """Return the pages whose Services are there: the load test is optional."""
    return [
        page
        for page in _PAGES
        if where.output("get", "service", page.service, "-n", page.namespace)
    ]


def _forward(where: Cluster, page: Page, port: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *("kubectl", "--context", where.context, "--namespace", page.namespace),
            *("port-forward", f"service/{page.service}", f"{port}:{page.port}"),
        ],
        stdout=subprocess.DEVNULL,
    )


def _grafana_password(where: Cluster) -> str:
    """Return the line with the password: the given one, or the chart's."""
    for secret in ("grafana-admin", f"{RELEASE}-grafana"):
        path = "jsonpath={.data.admin-password}"
        encoded = where.output("get", "secret", secret, "-n", MONITORING, "--output", path)
        if encoded:
            return f"Grafana: user admin, password {base64.b64decode(encoded).decode()}"
    return "Grafana: its password is in no Secret that we know"


def _minikube(where: Cluster, *words: str) -> None:
    """Run minikube for its profile. Raises StackError for any cluster that is not minikube's."""
    if where.context.startswith(_KIND):
        raise StackError(f"{where.context} is not a cluster of minikube")
    _run("minikube", "--profile", where.context, *words)


def _run(
    *command: str, environment: Mapping[str, str] | None = None, given: str | None = None
) -> None:
    """Show a command and carry it out in the checkout. Raises StackError."""
    _need(command[0])
    print(f"$ {' '.join(command)}", flush=True)
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        input=given,
        text=True,
        check=False,
    )
    if done.returncode:
        raise StackError(f"`{' '.join(command[:3])} …` failed; its own message is above")


def _need(tool: str) -> None:
    if not shutil.which(tool):
        raise StackError(f"{tool} is not installed: {_TOOLS[tool]}")


if __name__ == "__main__":
    command.run(main)
