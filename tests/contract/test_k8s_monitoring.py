"""The Helm values of kube-prometheus-stack: history is kept, and alerts reach somebody."""

import json
import queue
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.machine import free_port, require
from tests.support.processes import Program, running
from tests.support.servers import serving
from tools import ROOT

Json = dict[str, Any]

VALUES: Json = yaml.safe_load(
    (ROOT / "k8s/overlays/minikube/kube-prometheus-stack.yaml").read_text()
)
SLACK: Json = yaml.safe_load((ROOT / "prometheus/slack.values.yaml").read_text())["alertmanager"]
_GIB = 2**30
_SIZES = {"Gi": _GIB, "GB": _GIB}  # Prometheus' own GB is 2^30 bytes


def claimed(storage: Json) -> int:
    """Return the size of a volume claim in bytes."""
    spec = storage["volumeClaimTemplate"]["spec"]
    assert spec["accessModes"] == ["ReadWriteOnce"]
    return size(spec["resources"]["requests"]["storage"])


def size(text: str) -> int:
    """Return a size in bytes."""
    return int(text[:-2]) * _SIZES[text[-2:]]


def test_the_history_survives_its_pod() -> None:
    """Prometheus has a volume, and deletes its oldest blocks before the volume is full."""
    spec = VALUES["prometheus"]["prometheusSpec"]

    assert size(spec["retentionSize"]) <= 0.85 * claimed(spec["storageSpec"])


def test_silences_survive_their_pod() -> None:
    """Alertmanager has a volume."""
    assert claimed(VALUES["alertmanager"]["alertmanagerSpec"]["storage"]) >= _GIB


def test_prometheus_serves_the_runbooks_that_alerts_link_to() -> None:
    """The page's ConfigMap is mounted where Prometheus looks for its consoles."""
    spec = VALUES["prometheus"]["prometheusSpec"]
    (volume,) = spec["volumes"]
    (mount,) = spec["volumeMounts"]
    kustomization = yaml.safe_load((ROOT / "prometheus/consoles/kustomization.yaml").read_text())
    (generated,) = kustomization["configMapGenerator"]

    assert spec["additionalArgs"] == [
        {"name": "web.console.templates", "value": mount["mountPath"]}
    ]
    # Prometheus starts without it, since it is created after its namespace is.
    assert volume["configMap"] == {"name": generated["name"], "optional": True}
    assert generated["files"] == ["runbooks.html"]
    assert generated["options"] == {"disableNameSuffixHash": True}


def test_slack_on_kubernetes_is_slack_in_containers() -> None:
    """The configuration is that of the other stacks, and the file of its secret is mounted."""
    plain = yaml.safe_load((ROOT / "prometheus/alertmanager.slack.yml").read_text())
    spec = SLACK["alertmanagerSpec"]
    (container,) = spec["containers"]
    (mount,) = spec["volumeMounts"]
    (slack,) = SLACK["config"]["receivers"][0]["slack_configs"]

    assert SLACK["config"] == plain
    assert SLACK["tplConfig"] is False, "Helm would expand the templates of the messages"
    assert f"{container['workingDir']}/{slack['api_url_file']}" == (
        f"{mount['mountPath']}/slack_webhook_url"
    )
    assert [mount["name"]] == [volume["name"] for volume in spec["volumes"]]


class Slack(ThreadingHTTPServer):
    """Accepts messages as Slack's webhooks do."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Webhook)
        self.messages: queue.Queue[Json] = queue.Queue()


class _Webhook(BaseHTTPRequestHandler):
    server: Slack

    def do_POST(self) -> None:
        self.server.messages.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="slack")
def _slack() -> Iterator[Slack]:
    with serving(Slack()) as server:
        yield server


@pytest.fixture(name="alertmanager")
def _alertmanager(slack: Slack, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yield a client of an Alertmanager that runs as the values have it, without the waits."""
    config = yaml.safe_dump(SLACK["config"]).replace("group_wait: 30s", "group_wait: 0s")
    (tmp_path / "alertmanager.yaml").write_text(config)
    secret = tmp_path / SLACK["config"]["receivers"][0]["slack_configs"][0]["api_url_file"]
    secret.parent.mkdir()
    secret.write_text(f"http://127.0.0.1:{slack.server_port}/hook\n")
    address = f"127.0.0.1:{free_port()}"
    program = Program(
        [
            require("alertmanager"),
            f"--config.file={tmp_path / 'alertmanager.yaml'}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        tmp_path / "log",
        cwd=tmp_path,
    )
    with running(program), httpx.Client(base_url=f"http://{address}") as client:
        program.until(lambda: client.get("/-/ready").is_success, "Alertmanager is ready")
        yield client


def test_an_alert_arrives_in_slack(alertmanager: httpx.Client, slack: Slack) -> None:
    """The message names the alert and the version, says what happened and links to its runbook."""
    labels = {"alertname": "FeatureDrift", "severity": "ticket", "model": "loans", "version": "a1"}
    annotations = {"summary": "amount has drifted", "runbook_url": "http://there/#featuredrift"}

    alert = {"labels": labels, "annotations": annotations}
    alertmanager.post("/api/v2/alerts", json=[alert]).raise_for_status()
    (message,) = slack.messages.get(timeout=30)["attachments"]

    assert message["title"] == "FIRING (1) FeatureDrift loans a1"
    assert message["text"].strip() == "amount has drifted (http://there/#featuredrift)"
