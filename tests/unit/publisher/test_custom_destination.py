"""The example of docs/export.md, run as the publisher runs it."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from publisher.destination import Destination
from tests.support.export import Harness
from tests.support.machine import free_port
from tests.support.processes import environment
from tests.support.servers import serving
from tests.support.spool import label, predictions, small_spool
from tools import ROOT

ADDRESS = "127.0.0.1:8090"


class _Receiver(ThreadingHTTPServer):
    """Stores what it gets, and answers the first requests with other statuses."""

    def __init__(self) -> None:
        self.statuses = [503, 200]
        self.received: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Receiver

    def do_POST(self) -> None:
        """Answer with the next status."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if status == 200:
            self.server.received.append(body)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="receiver")
def _receiver() -> Iterator[_Receiver]:
    with serving(_Receiver()) as server:
        yield server


def example(directory: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> Destination:
    """Return the destination of the documentation, with another port."""
    pytest.importorskip("requests")
    text = (ROOT / "docs" / "export.md").read_text("utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert ADDRESS in code
    (directory / "webhook.py").write_text(code.replace(ADDRESS, f"127.0.0.1:{port}"))
    monkeypatch.syspath_prepend(directory)
    monkeypatch.delitem(sys.modules, "webhook", raising=False)
    found = importlib.import_module("webhook").Webhook()
    assert isinstance(found, Destination)
    return found


def test_the_documented_destination_gets_every_event(
    tmp_path: Path, receiver: _Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is retried after a 503, and gets predictions before labels."""
    destination = example(tmp_path, receiver.server_port, monkeypatch)
    spool = tmp_path / "spool"
    spool.mkdir()
    writer, _ = small_spool(spool)
    writer.append(predictions("ab"))
    writer.append([label("a")])
    harness = Harness(spool, destination=destination)

    harness.publisher.run_once()

    assert [each["kind"] for each in receiver.received] == ["prediction", "label"]
    assert [each["prediction_id"] for each in receiver.received[0]["events"]] == ["a", "b"]
    assert receiver.received[1]["events"][0]["actual"] == 6.0
    assert harness.value("publisher_failures_total", cause="server_error") == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere:Webhook", "PUBLISHER_DESTINATION: No module named 'nowhere'"),
        ("json:Webhook", "PUBLISHER_DESTINATION: module 'json' has no attribute 'Webhook'"),
        ("pathlib:Path", "PUBLISHER_DESTINATION: pathlib:Path is no Destination"),
    ],
)
def test_what_is_no_destination_ends_the_publisher(tmp_path: Path, name: str, message: str) -> None:
    """It ends with one line that names the setting, and needs no setting of Fiddler's."""
    settings = {
        "PUBLISHER_DESTINATION": name,
        "MODEL_SPOOL_DIR": str(tmp_path),
        "PUBLISHER_METRICS_PORT": str(free_port()),
    }

    done = subprocess.run(
        [sys.executable, "-m", "publisher"],
        cwd=ROOT / "services" / "publisher",
        env=environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (1, f"publisher: {message}\n")
