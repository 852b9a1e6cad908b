"""The Job that makes up the key of prediction ids, against a stand-in API server."""

import importlib.util
import json
import threading
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from tools import ROOT

SCRIPT = ROOT / "k8s/components/prediction-key/create_key.py"


class ApiServer(ThreadingHTTPServer):
    """Keeps Secrets as Kubernetes does: a name is taken once."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets: dict[str, dict[str, Any]] = {}
        self.allowed = True

    @property
    def url(self) -> str:
        """Return where it listens."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: ApiServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = body["metadata"]["name"]
        status = 201
        if self.path != "/api/v1/namespaces/there/secrets":
            status = 404
        elif not self.server.allowed or self.headers["Authorization"] != "Bearer t0ken":
            status = 403
        elif name in self.server.secrets:
            status = 409
        else:
            self.server.secrets[name] = body
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(name="api")
def _api() -> Iterator[ApiServer]:
    with ApiServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("create_key", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_key_is_long_random_and_where_the_model_looks(
    api: ApiServer, script: ModuleType
) -> None:
    """A fresh namespace gets a Secret whose key the service's settings accept."""
    assert script.create(api.url, "there", "t0ken", None) == "created"

    key = api.secrets["model-secrets"]["stringData"]["MODEL_PREDICTION_KEYS"]
    assert len(key) == 64
    assert key != script.secret("other")["stringData"]["MODEL_PREDICTION_KEYS"]


def test_a_key_that_is_there_stays(api: ApiServer, script: ModuleType) -> None:
    """A second apply changes nothing: ids that were given out stay valid."""
    script.create(api.url, "there", "t0ken", None)
    first = dict(api.secrets)

    assert script.create(api.url, "there", "t0ken", None).startswith("exists already")
    assert api.secrets == first


def test_a_refusal_ends_the_job_with_an_error(api: ApiServer, script: ModuleType) -> None:
    """Kubernetes then tries again, and the model's pods wait."""
    api.allowed = False

    with pytest.raises(urllib.error.HTTPError, match="403"):
        script.create(api.url, "there", "t0ken", None)
