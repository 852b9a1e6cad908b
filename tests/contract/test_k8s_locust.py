"""components/locust: the simulated traffic starts once the model is ready."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType

import pytest

from tests.support.k8s import build, named, pod_spec
from tests.support.machine import free_port
from tests.support.servers import load_script, serving
from tools import ROOT

SCRIPT = ROOT / "k8s/components/locust/wait_for_model.py"


class Model(ThreadingHTTPServer):
    """Answers that it is not ready until `pending` requests have been made."""

    def __init__(self, pending: int) -> None:
        super().__init__(("127.0.0.1", 0), _Readiness)
        self.pending = pending

    @property
    def url(self) -> str:
        """Return the URL of the readiness."""
        return f"http://127.0.0.1:{self.server_port}/readyz"


class _Readiness(BaseHTTPRequestHandler):
    server: Model

    def do_GET(self) -> None:
        self.send_response(503 if self.server.pending else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.pending = max(0, self.server.pending - 1)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    return load_script(SCRIPT)


@pytest.fixture(name="model")
def _model() -> Iterator[Model]:
    with serving(Model(pending=2)) as server:
        yield server


def test_the_wait_ends_when_the_model_is_ready(
    model: Model, script: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each reason for waiting is printed once."""
    script.wait(model.url, pause=0)

    assert model.pending == 0
    assert capsys.readouterr().out == (
        f"waiting for {model.url}: HTTP Error 503: Service Unavailable\n"
    )


def test_a_model_that_is_not_there_is_waited_for(script: ModuleType) -> None:
    """A Service without ready pods rejects connections, which is no error."""
    assert "refused" in script.problem(f"http://127.0.0.1:{free_port()}/readyz")


def test_the_master_waits_before_it_starts() -> None:
    """The wait is an init container of the master, whose settings name the model."""
    spec = pod_spec(named(build("overlays/minikube"), "Deployment", "locust-master"))
    (wait,) = spec["initContainers"]
    (locust,) = spec["containers"]
    (mount,) = wait["volumeMounts"]

    assert wait["command"] == ["python", f"{mount['mountPath']}/{SCRIPT.name}"]
    assert wait["envFrom"] == locust["envFrom"]
    assert wait["image"] == locust["image"]
