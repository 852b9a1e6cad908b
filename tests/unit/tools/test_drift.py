"""The command that lets running traffic drift."""

import json
import re
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.machine import free_port
from tests.support.servers import serving
from tools import ROOT, drift
from traffic.drift import MODES


class _Locust(ThreadingHTTPServer):
    """Keeps what it is posted, and answers `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.posted: list[tuple[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Locust

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((self.path, json.loads(body)))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def _locust(status: int = 200) -> AbstractContextManager[_Locust]:
    return serving(_Locust(status))


@pytest.fixture(autouse=True)
def _no_grafana(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAFANA_PORT", str(free_port()))


def test_the_modes_are_the_traffics() -> None:
    """What can be typed is what locust accepts."""
    assert set(drift.MODES) == set(MODES)


@pytest.mark.parametrize(
    ("arguments", "mode"), [([], "drifted"), (["gradual"], "gradual"), (["off"], "off")]
)
def test_it_switches_and_says_what_to_watch(
    arguments: list[str],
    mode: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One POST; the report names the alerts' page, and how a drift is ended."""
    with _locust() as locust:
        monkeypatch.setenv("LOCUST_PORT", str(locust.server_port))
        monkeypatch.setenv("PROMETHEUS_PORT", "19090")
        assert drift.main(arguments) == 0

    assert locust.posted == [("/drift", {"mode": mode})]
    said = capsys.readouterr().out
    assert "http://127.0.0.1:19090/alerts" in said
    assert ("FeatureDrift" in said) == (mode != "off")
    assert ("./task drift -- off" in said) == (mode != "off")


def test_what_is_to_be_watched_exists() -> None:
    """Grafana is provisioned with the dashboard, and the rules have the alerts and the series."""
    rules = "".join(path.read_text() for path in (ROOT / "prometheus" / "rules").glob("*.yml"))
    report = "".join(drift._REPORTS.values())  # noqa: SLF001
    for alert in set(re.findall(r"\b[A-Z]\w+[a-z][A-Z]\w+", report)):
        assert f"alert: {alert}\n" in rules
    assert "record: model_feature:verdict\n" in rules
    path = ROOT / "grafana" / "provisioning" / "dashboards" / "drift.json"
    assert f"/d/{json.loads(path.read_text('utf-8'))['uid']}" == drift._DASHBOARD  # noqa: SLF001


def test_stopped_stack_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says where traffic was looked for, and what starts it."""
    port = free_port()
    monkeypatch.setenv("LOCUST_PORT", str(port))

    assert drift.main([]) == 1
    assert capsys.readouterr().err == (
        f"drift: no traffic is running at http://127.0.0.1:{port}: `./task up` starts it\n"
    )


def test_another_program_on_the_port_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something answers, but it is no locust of this version."""
    with _locust(404) as locust:
        monkeypatch.setenv("LOCUST_PORT", str(locust.server_port))
        assert drift.main([]) == 1

    assert capsys.readouterr().err.startswith("drift: http://127.0.0.1:")
