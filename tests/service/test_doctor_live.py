"""The doctor examines a real Prometheus that scrapes a stand-in for the model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge, start_http_server

from tests.support.machine import free_port
from tests.support.prometheus import RULES, Prometheus, running_prometheus
from tests.support.wait import eventually
from tools.doctor.__main__ import main

MODEL = {"model": "loans", "version": "0123456789ab"}


class StandIn:
    """The metrics of a model that the doctor reads, and its answer to /readyz."""

    def __init__(self) -> None:
        self.port = free_port()
        registry = CollectorRegistry()
        self._info = Gauge("model_info", "Which model runs.", MODEL, registry=registry)
        self._ratio = Gauge(
            "model_feature_reference_ratio",
            "Share of a bin in training.",
            [*MODEL, "feature", "bin"],
            registry=registry,
        )
        self._info.labels(**MODEL).set(1)
        self._server, self._thread = start_http_server(self.port, "127.0.0.1", registry)

    def export_reference(self) -> None:
        """Export a reference."""
        self._ratio.labels(**MODEL, feature="ph", bin="00").set(1)

    def stop(self) -> None:
        """Stop the server."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(name="model")
def _model() -> Iterator[StandIn]:
    model = StandIn()
    yield model
    model.stop()


@pytest.fixture(name="prometheus")
def _prometheus(
    model: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path, {"model": [f"127.0.0.1:{model.port}"]}) as prometheus:
        monkeypatch.setenv("PROMETHEUS_PORT", prometheus.url.rpartition(":")[2])
        # The stand-in answers any path with its metrics, including /readyz.
        monkeypatch.setenv("MODEL_PORT", str(model.port))
        monkeypatch.setenv("GRAFANA_PORT", str(free_port()))
        yield prometheus


def test_the_doctor_reports_exactly_what_is_wrong(
    model: StandIn, prometheus: Prometheus, capsys: pytest.CaptureFixture[str]
) -> None:
    """It reports a missing reference and Alertmanager, and then only the Alertmanager."""
    assert main(["local"]) == 1
    first = capsys.readouterr().out

    model.export_reference()
    eventually(
        lambda: prometheus.query("model_feature_reference_ratio"), "the reference is scraped"
    )
    assert main(["local"]) == 1
    second = capsys.readouterr().out

    assert failed_checks(first) == {"reference", "alerts"}
    assert failed_checks(second) == {"alerts"}
    assert "ok    targets: 1 of model are up" in second
    assert f"ok    rules: all {number_of_rules()} in" in second
    assert "--    dashboards: no Grafana to ask" in second


def failed_checks(output: str) -> set[str]:
    """Return the names of the failed checks."""
    lines = [line for line in output.splitlines() if line.startswith("FAIL")]
    assert all(" → " in line for line in lines), "a failed check has no remedy"
    return {line.split()[1].rstrip(":") for line in lines}


def number_of_rules() -> int:
    """Return the number of rules in the files."""
    return sum(
        line.strip().startswith(("- record:", "- alert:"))
        for file in RULES.glob("*.yml")
        for line in file.read_text().splitlines()
    )
