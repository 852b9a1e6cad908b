"""components/fiddler: the publisher as a sidecar of the model, in both overlays that use it."""

import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from tests.support.k8s import (
    WITH_FIDDLER,
    BuildError,
    Json,
    build,
    containers,
    named,
    pod_spec,
    ports,
    prepared,
)
from tests.support.machine import free_port
from tests.support.servers import load_script, serving
from tools import ROOT

SCRIPT = ROOT / "k8s/components/fiddler/drain.py"
SPOOL = "/var/spool/model"

overlays = pytest.mark.parametrize("overlay", WITH_FIDDLER)


def container(overlay: str, name: str) -> Json:
    """Return a container of the model's pods."""
    found = containers(named(build(overlay), "Deployment", "model"))
    return next(each for each in found if each["name"] == name)


@overlays
def test_the_publisher_outlives_the_model(overlay: str) -> None:
    """The publisher is a native sidecar, which stops last, and has time to send the last events."""
    deployment = named(build(overlay), "Deployment", "model")
    publisher = container(overlay, "publisher")

    assert publisher in pod_spec(deployment)["initContainers"]
    assert publisher["restartPolicy"] == "Always"
    assert publisher["lifecycle"]["preStop"]["exec"]["command"][-1] == "/etc/publisher/drain.py"
    assert pod_spec(deployment)["terminationGracePeriodSeconds"] == 120


@overlays
def test_model_and_publisher_use_one_spool_on_disk(overlay: str) -> None:
    """The spool survives container restarts and uses no memory."""
    deployment = named(build(overlay), "Deployment", "model")
    volumes = {each["name"]: each for each in pod_spec(deployment)["volumes"]}
    for name in ("model", "publisher"):
        each = container(overlay, name)
        variables = {variable["name"]: variable.get("value") for variable in each["env"]}
        (mounted,) = [mount for mount in each["volumeMounts"] if mount["mountPath"] == SPOOL]
        assert variables["MODEL_SPOOL_DIR"] == SPOOL
        assert "medium" not in volumes[mounted["name"]]["emptyDir"]


@overlays
def test_fiddler_cannot_make_the_model_unready(overlay: str) -> None:
    """The publisher has no probes, because a sidecar's probes affect its pod."""
    assert [key for key in container(overlay, "publisher") if key.endswith("Probe")] == []


@overlays
def test_the_credentials_are_a_secret_with_a_fixed_name(overlay: str) -> None:
    """The name has no hash, so a secret store can provide the Secret instead of the generator."""
    references = [each.get("secretRef") for each in container(overlay, "publisher")["envFrom"]]

    assert {"name": "fiddler-secrets"} in references


def test_production_allows_only_what_the_publisher_needs() -> None:
    """It allows HTTPS egress and scrapes, and the image comes from the same registry."""
    objects = build("overlays/production-fiddler")
    policy = named(objects, "NetworkPolicy", "model")["spec"]
    listening = ports(named(objects, "Deployment", "model"))
    opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]

    assert policy["egress"] == [{"ports": [{"port": 443}]}]
    assert sorted(opened) == sorted(listening)
    prefix = container("overlays/production-fiddler", "model")["image"].rpartition("/")[0]
    image = container("overlays/production-fiddler", "publisher")["image"]
    assert image.rpartition("/")[0] == prefix


def test_a_fresh_clone_reports_the_missing_secret() -> None:
    """The build fails with the name of the missing file, and succeeds once it is filled in."""
    if (ROOT / "k8s/secrets/fiddler/fiddler.secret").exists():
        pytest.skip("this checkout has its secrets")

    assert build("overlays/minikube-fiddler", prepared())
    with pytest.raises(BuildError, match=r"fiddler\.secret"):
        build("overlays/minikube-fiddler", ROOT)


class Publisher(ThreadingHTTPServer):
    """A metrics server whose backlog decreases by one event at each scrape."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Metrics)
        self.backlog = 3

    @property
    def url(self) -> str:
        """Return the URL of the metrics."""
        return f"http://127.0.0.1:{self.server_port}/metrics"


class _Metrics(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        family = "publisher_backlog_events"
        text = f"# TYPE {family} gauge\n{family} {self.server.backlog}.0\n"
        self.wfile.write(text.encode())
        self.server.backlog -= 1

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="publisher")
def _publisher() -> Iterator[Publisher]:
    with serving(Publisher()) as server:
        yield server


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    return load_script(SCRIPT)


def test_the_hook_waits_for_the_model_and_the_last_event(
    publisher: Publisher, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog is scraped only after the model has stopped, and until it is empty."""
    scraped_while_serving = []
    with socket.create_server(("127.0.0.1", 0)) as model:
        address = model.getsockname()

        def sleep(_: float) -> None:
            if model.fileno() != -1:
                scraped_while_serving.append(publisher.backlog < 3)
                model.close()

        monkeypatch.setattr(script.time, "sleep", sleep)
        script.drain(address, publisher.url, pause=0.5)

    assert scraped_while_serving == [False]
    assert publisher.backlog == -1  # scraped at 3, 2, 1 and 0


def test_the_hook_does_not_wait_for_a_publisher_that_is_gone(script: ModuleType) -> None:
    """The hook returns if the publisher's metrics are unreachable."""
    script.drain(("127.0.0.1", free_port()), f"http://127.0.0.1:{free_port()}/metrics", pause=0.5)
