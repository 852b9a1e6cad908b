"""What the tier `cluster` applies to somebody's cluster, and its counting client."""

import csv
import http.client
import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import counting_client
from tests.support.cluster import Cluster
from tests.support.crds import published_problems
from tests.support.k8s import Objects, labels, of_kind, schema_problems, title
from tests.support.machine import require
from tests.support.servers import serving
from tests.support.wait import eventually

Json = dict[str, Any]
CUSTOM = "monitoring.coreos.com"


@pytest.fixture(name="cluster")
def _cluster(tmp_path: Path) -> Cluster:
    return Cluster("nowhere", tmp_path)


def built(directory: Path) -> Objects:
    """Return the objects of an overlay."""
    command = [require("kustomize"), "build", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return tuple(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))


def test_the_tests_stay_in_their_own_namespace(cluster: Cluster) -> None:
    """Every object is in it, and the only one outside is the namespace itself."""
    objects = built(cluster.overlay)
    (namespace,) = of_kind(objects, "Namespace")
    elsewhere = [each for each in objects if each["metadata"].get("namespace") is None]

    assert namespace["metadata"]["name"] == cluster.namespace
    assert elsewhere == [namespace]
    assert {each["metadata"]["namespace"] for each in built(cluster.production)} == {
        cluster.namespace
    }


def test_no_other_monitoring_takes_notice(cluster: Cluster) -> None:
    """Monitors and rules have a release of their own, and no dashboard is loaded anywhere."""
    objects = built(cluster.overlay)
    monitored = of_kind(objects, "ServiceMonitor", "PrometheusRule")
    (prometheus,) = of_kind(objects, "Prometheus")
    wanted = {"matchLabels": {"release": cluster.namespace}}

    assert {labels(each)["release"] for each in monitored} == {cluster.namespace}
    assert prometheus["spec"]["serviceMonitorSelector"] == wanted
    assert prometheus["spec"]["ruleSelector"] == wanted
    assert [title(each) for each in objects if "grafana_dashboard" in labels(each)] == []


def test_nothing_but_the_counting_client_sends_requests(cluster: Cluster) -> None:
    """Simulated traffic would change the counts that are compared."""
    objects = built(cluster.overlay)

    assert [title(each) for each in of_kind(objects, "Deployment")] == ["Deployment/model"]
    assert [title(each) for each in of_kind(objects, "ServiceMonitor")] == ["ServiceMonitor/model"]


@pytest.mark.parametrize("version", ["1.31", "1.37"])
def test_the_objects_of_the_tests_are_valid(cluster: Cluster, version: str) -> None:
    """Those of Kubernetes, under the oldest and the newest supported version."""
    objects = (*built(cluster.overlay), *built(cluster.production))
    native = [each for each in objects if CUSTOM not in each["apiVersion"]]

    assert [problem for each in native for problem in schema_problems(each, version)] == []


def test_the_prometheus_of_the_tests_is_valid(cluster: Cluster) -> None:
    """It fits the schema that the operator publishes."""
    (prometheus,) = of_kind(built(cluster.overlay), "Prometheus")

    assert published_problems(prometheus) == []


class Model(ThreadingHTTPServer):
    """Counts predictions and connections; every third prediction is rejected."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Predict)
        self.bodies: list[Json] = []
        self.connections = 0
        self.lock = threading.Lock()


class _Predict(BaseHTTPRequestHandler):
    server: Model
    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.connections += 1

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.bodies.append(body)
            rejected = len(self.server.bodies) % 3 == 0
        self.send_response(422 if rejected else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="model")
def _model() -> Iterator[Model]:
    with serving(Model()) as server:
        yield server


@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept alive", "new connections"])
def test_the_client_counts_every_answer(
    model: Model, example_bundle: Path, tmp_path: Path, *, keep_alive: bool
) -> None:
    """It sends the features of the held-out rows, over one connection or one for each request."""
    stop, started = tmp_path / "stop", tmp_path / "started"
    url = f"http://127.0.0.1:{model.server_port}"
    outcomes: dict[str, int] = {}

    def send() -> None:
        counted = counting_client.run(
            url, keep_alive=keep_alive, bundle=example_bundle, stop=stop, started=started
        )
        outcomes.update(counted)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        eventually(lambda: len(model.bodies) > 3, "the client has sent some requests")
    finally:
        stop.touch()
        thread.join()

    sent = len(model.bodies)
    assert outcomes == {"200": sent - sent // 3, "422": sent // 3}
    assert model.connections == (1 if keep_alive else sent)
    assert started.exists()
    with (example_bundle / "held_out.csv").open(newline="") as file:
        assert model.bodies[0].keys() < next(csv.DictReader(file)).keys()


def test_the_client_names_a_request_without_an_answer() -> None:
    """A connection that is rejected is an outcome, and does not end the client."""
    connection = http.client.HTTPConnection("127.0.0.1", 9, timeout=5)

    assert counting_client.ask(connection, b"{}") == "ConnectionRefusedError"
