"""The doctor and `status` ask a real Prometheus for the rejected rows of a stand-in model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, start_http_server

from tests.support.findings import problems
from tests.support.machine import free_port
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.wait import eventually
from tools.doctor import local
from tools.doctor import prometheus as doctor
from tools.doctor.prometheus import Traffic
from tools.stack import traffic
from tools.stack.settings import Settings, load_settings

MODEL = {"model": "loans", "version": "a1"}


class Rows:
    """The counters of rows that a model exports."""

    def __init__(self) -> None:
        self.port = free_port()
        registry = CollectorRegistry()
        labels = list(MODEL)
        self._predicted = Counter("model_predictions", "Rows.", labels, registry=registry)
        self._rejected = Counter("model_rows_rejected", "Rows.", labels, registry=registry)
        self._faults = Counter(
            "model_input_rejected", "Faults.", [*labels, "field", "reason"], registry=registry
        )
        self.count(predicted=0, rejected=0)
        self._server, self._thread = start_http_server(self.port, "127.0.0.1", registry)

    def count(self, *, predicted: int, rejected: int) -> None:
        """Count rows; each rejected one has two bad fields, one of them in every other row."""
        self._predicted.labels(**MODEL).inc(predicted)
        self._rejected.labels(**MODEL).inc(rejected)
        self._faults.labels(**MODEL, field="income", reason="missing").inc(rejected)
        self._faults.labels(**MODEL, field="age", reason="type").inc(rejected / 2)

    def stop(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(name="rows")
def _rows() -> Iterator[Rows]:
    rows = Rows()
    yield rows
    rows.stop()


@pytest.fixture(name="prometheus")
def _prometheus(rows: Rows, tmp_path: Path) -> Iterator[Prometheus]:
    with running_prometheus(tmp_path, {"model": [f"127.0.0.1:{rows.port}"]}) as prometheus:
        yield prometheus


@pytest.fixture(name="settings")
def _settings(prometheus: Prometheus, tmp_path: Path) -> Settings:
    port = prometheus.url.rpartition(":")[2]
    return load_settings({"PROMETHEUS_PORT": port, "STACK_VAR": str(tmp_path)}, tmp_path)


def test_rejected_rows_are_counted_once_however_many_fields_are_bad(
    rows: Rows, settings: Settings
) -> None:
    """A quarter of the rows is rejected, with two faults each: the share is a quarter."""
    source = local.UrlPrometheus(settings.url("PROMETHEUS_PORT"))
    eventually(lambda: Traffic.ask(source).predicted, "two scrapes are there")
    assert traffic.rejected_share(settings) is None

    rows.count(predicted=300, rejected=100)

    share = eventually(lambda: traffic.rejected_share(settings), "the rows are scraped")
    found = problems(doctor.traffic(Traffic.ask(source), local.REMEDIES))
    assert share == pytest.approx(0.25)
    assert found == [
        "25.0% of the rows of loans a1 in the last 5 minutes were rejected, mostly income: missing"
    ]
