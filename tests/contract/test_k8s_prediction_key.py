"""The Job that generates the key of prediction ids, against a stand-in API server."""

import json
import urllib.error
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any

import pytest

from tests.support.servers import load_script, serving
from tools import ROOT

SCRIPT = ROOT / "k8s/components/prediction-key/create_key.py"


class ApiServer(ThreadingHTTPServer):
    """Stores Secrets like Kubernetes: creating an existing name is a conflict."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.secrets: dict[str, dict[str, Any]] = {}
        self.allowed = True

    @property
    def url(self) -> str:
        """Return the server's URL."""
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
        """Log nothing."""


@pytest.fixture(name="api")
def _api() -> Iterator[ApiServer]:
    with serving(ApiServer()) as server:
        yield server


@pytest.fixture(name="script", scope="module")
def _script() -> ModuleType:
    return load_script(SCRIPT)


def test_a_random_key_is_created_in_a_fresh_namespace(api: ApiServer, script: ModuleType) -> None:
    """The Secret has a key of 64 characters that differs each time."""
    assert script.create(api.url, "there", "t0ken", None) == "was created"

    key = api.secrets["model-secrets"]["stringData"]["MODEL_PREDICTION_KEYS"]
    assert len(key) == 64
    assert key != script.secret("other")["stringData"]["MODEL_PREDICTION_KEYS"]


def test_an_existing_key_is_unchanged(api: ApiServer, script: ModuleType) -> None:
    """A second apply does not change the key, so that issued ids stay valid."""
    script.create(api.url, "there", "t0ken", None)
    first = dict(api.secrets)

    assert script.create(api.url, "there", "t0ken", None).startswith("already exists")
    assert api.secrets == first


def test_a_rejected_request_ends_the_job_with_an_error(api: ApiServer, script: ModuleType) -> None:
    """A 403 of the API server is raised, so that Kubernetes retries the Job."""
    api.allowed = False

    with pytest.raises(urllib.error.HTTPError, match="403"):
        script.create(api.url, "there", "t0ken", None)
