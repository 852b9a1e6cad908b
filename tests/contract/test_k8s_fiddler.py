"""components/fiddler: the publisher beside the model, in both overlays that may have it."""

import importlib.util
import socket
import threading
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
    """A native sidecar stops last, and has time to send the last events."""
    deployment = named(build(overlay), "Deployment", "model")
    publisher = container(overlay, "publisher")

    assert publisher in pod_spec(deployment)["initContainers"]
    assert publisher["restartPolicy"] == "Always"
    assert publisher["lifecycle"]["preStop"]["exec"]["command"][-1] == "/etc/publisher/drain.py"
    assert pod_spec(deployment)["terminationGracePeriodSeconds"] == 120


@overlays
def test_both_use_one_spool_on_disk(overlay: str) -> None:
    """What the model has spooled survives every container, and takes no memory."""
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
    """A sidecar's probes count for its pod, so it has none."""
    assert [key for key in container(overlay, "publisher") if key.endswith("Probe")] == []


@overlays
def test_the_access_is_a_secret_of_the_original_name(overlay: str) -> None:
    """Whoever makes it: the generator of secrets/fiddler, or a store of secrets."""
    references = [each.get("secretRef") for each in container(overlay, "publisher")["envFrom"]]

    assert {"name": "fiddler-secrets"} in references


def test_production_opens_what_the_publisher_needs_and_no_more() -> None:
    """HTTPS to the outside, its metrics to Prometheus, its image from the same registry."""
    objects = build("overlays/production-fiddler")
    policy = named(objects, "NetworkPolicy", "model")["spec"]
    listening = ports(named(objects, "Deployment", "model"))
    opened = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]

    assert policy["egress"] == [{"ports": [{"port": 443}]}]
    assert sorted(opened) == sorted(listening)
    prefix = container("overlays/production-fiddler", "model")["image"].rpartition("/")[0]
    image = container("overlays/production-fiddler", "publisher")["image"]
    assert image.rpartition("/")[0] == prefix


def test_a_fresh_clone_says_which_secret_is_missing() -> None:
    """Kustomize names the file; `./task k8s:fiddler` says what to do about it."""
    if (ROOT / "k8s/secrets/fiddler/fiddler.secret").exists():
        pytest.skip("this checkout has its secrets")

    assert build("overlays/minikube-fiddler", prepared())
    with pytest.raises(BuildError, match=r"fiddler\.secret"):
        build("overlays/minikube-fiddler", ROOT)


class Publisher(ThreadingHTTPServer):
    """Tells of a backlog that is one event less at each scrape."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Metrics)
        self.backlog = 3

    @property
    def url(self) -> str:
        """Return where its metrics are."""
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
        """Say nothing."""


@pytest.fixture(name="publisher")
def _publisher() -> Iterator[Publisher]:
    with Publisher() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("drain", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_end_waits_for_the_model_and_for_the_last_event(
    publisher: Publisher, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First nobody may make events any more, then there must be none left."""
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
    assert publisher.backlog == -1  # asked at 3, 2, 1 and 0


def test_the_end_does_not_wait_for_a_publisher_that_is_gone(script: ModuleType) -> None:
    """Without one, nobody would send what is left."""
    script.drain(("127.0.0.1", free_port()), f"http://127.0.0.1:{free_port()}/metrics", pause=0.5)
