"""A real Alertmanager notifies of the cause, and only of the cause."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.machine import free_port, require
from tests.support.processes import Program, running
from tests.support.wait import eventually
from tools import ROOT

CONFIG = ROOT / "prometheus" / "alertmanager.yml"
MODEL = {"job": "model", "model": "loans"}
DRIFT = {
    "alertname": "FeatureDrift",
    "severity": "ticket",
    "version": "a",
    "feature": "ph",
    **MODEL,
}
SUDDEN = DRIFT | {"alertname": "FeatureDriftSudden", "statistic": "mean"}
WATCHDOG = {"alertname": "Watchdog", "severity": "none"}
DOWN = {"alertname": "ModelDown", "severity": "page", "job": "model"}
SILENT = {"alertname": "NoTraffic", "severity": "ticket", **MODEL}
BLIND = {"alertname": "DriftBlind", "severity": "ticket", "version": "a", **MODEL}
BURN = {"alertname": "LatencyBurnRate", "job": "model"}


@pytest.fixture(name="alertmanager")
def _alertmanager(tmp_path: Path) -> Iterator[httpx.Client]:
    """Yield a client of an Alertmanager with the project's configuration."""
    address = f"127.0.0.1:{free_port()}"
    program = Program(
        [
            require("alertmanager"),
            f"--config.file={CONFIG}",
            f"--storage.path={tmp_path / 'data'}",
            f"--web.listen-address={address}",
            "--cluster.listen-address=",
        ],
        tmp_path / "log",
    )
    with running(program), httpx.Client(base_url=f"http://{address}") as client:
        program.until(lambda: client.get("/-/ready").is_success, "Alertmanager is ready")
        yield client


@pytest.mark.parametrize(
    ("cause", "effect", "state"),
    [
        pytest.param(DOWN, DRIFT, "suppressed", id="down silences drift"),
        pytest.param(DOWN, SILENT, "suppressed", id="down silences no traffic"),
        pytest.param(DOWN, DRIFT | {"job": "other"}, "active", id="another model notifies"),
        pytest.param(SUDDEN, DRIFT, "suppressed", id="sudden silences the slow one"),
        pytest.param(SUDDEN, DRIFT | {"feature": "amount"}, "active", id="of that feature only"),
        pytest.param(DOWN, WATCHDOG, "active", id="the watchdog is never silent"),
        pytest.param(
            SILENT, BLIND | {"reason": "too_few_rows"}, "suppressed", id="no traffic, no rows"
        ),
        pytest.param(
            SILENT, BLIND | {"reason": "no_reference"}, "active", id="no traffic, no reference"
        ),
        pytest.param(SILENT, DRIFT, "active", id="no traffic leaves drift"),
        pytest.param(
            BURN | {"severity": "page"},
            BURN | {"severity": "ticket"},
            "suppressed",
            id="page silences ticket of the same alert",
        ),
        pytest.param(
            BURN | {"severity": "page"},
            BURN | {"severity": "ticket", "alertname": "AvailabilityBurnRate"},
            "active",
            id="page leaves ticket of another alert",
        ),
    ],
)
def test_cause_inhibits_effect(
    alertmanager: httpx.Client, cause: dict[str, str], effect: dict[str, str], state: str
) -> None:
    """An effect is suppressed by its own cause; the cause stays active, and so do others."""
    alerts = [{"labels": labels} for labels in (cause, effect)]
    alertmanager.post("/api/v2/alerts", json=alerts).raise_for_status()

    def states() -> list[str]:
        found = alertmanager.get("/api/v2/alerts").json()
        ordered = [a for labels in (cause, effect) for a in found if a["labels"] == labels]
        return [alert["status"]["state"] for alert in ordered]

    eventually(lambda: states() == ["active", state], f"the effect is {state}", timeout=10)
