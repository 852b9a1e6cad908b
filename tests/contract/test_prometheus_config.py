"""Prometheus, Alertmanager and Grafana agree about intervals, targets and routes."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.machine import free_port, require
from tests.support.processes import Program, running
from tools import ROOT

PROMETHEUS = ROOT / "prometheus"
# The contract's ports of what Prometheus scrapes: service name = host = job.
SCRAPED = {"model": 8001, "locust": 9646, "prometheus": 9090, "alertmanager": 9093, "grafana": 3000}


def read(path: Path) -> Any:  # noqa: ANN401 YAML holds anything
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text())


def test_prometheus_accepts_its_configuration(tmp_path: Path) -> None:
    """The configuration is valid, from wherever it lies: no path in it is absolute."""
    elsewhere = shutil.copytree(PROMETHEUS, tmp_path / "elsewhere")

    # This checks the rule files as well.
    command = [require("promtool"), "check", "config", str(elsewhere / "prometheus.yml")]
    subprocess.run(command, check=True, capture_output=True)


def test_scrape_rules_and_grafana_keep_one_interval() -> None:
    """Scrape, evaluation and Grafana's time interval are one number."""
    intervals = read(PROMETHEUS / "prometheus.yml")["global"]
    files = (ROOT / "grafana" / "provisioning" / "datasources").glob("*.yml")
    sources = [source for file in files for source in read(file)["datasources"]]

    assert {intervals["scrape_interval"], intervals["evaluation_interval"]} == {"15s"}
    [prometheus] = [source for source in sources if source["type"] == "prometheus"]
    assert prometheus["jsonData"]["timeInterval"] == "15s"


@pytest.mark.parametrize(("service", "port"), SCRAPED.items())
def test_target_file_names_the_service(service: str, port: int) -> None:
    """File, host and job bear the service's name."""
    expected = [{"targets": [f"{service}:{port}"], "labels": {"job": service}}]

    assert read(PROMETHEUS / "targets" / f"{service}.yml") == expected


def test_alerts_go_to_the_alertmanager_that_is_scraped() -> None:
    """Prometheus finds the Alertmanager in its target file."""
    [alertmanagers] = read(PROMETHEUS / "prometheus.yml")["alerting"]["alertmanagers"]

    assert alertmanagers == {"file_sd_configs": [{"files": ["targets/alertmanager.yml"]}]}


@pytest.mark.parametrize("name", ["alertmanager.yml", "alertmanager.slack.yml"])
def test_alertmanager_accepts_its_configuration(name: str) -> None:
    """Both configurations are valid."""
    command = [require("amtool"), "check-config", str(PROMETHEUS / name)]

    subprocess.run(command, check=True, capture_output=True)


def test_slack_changes_the_receivers_only() -> None:
    """With and without Slack, alerts are grouped, routed and inhibited alike."""
    plain = read(PROMETHEUS / "alertmanager.yml")
    slack = read(PROMETHEUS / "alertmanager.slack.yml")

    assert plain.pop("receivers") == [{"name": "ui"}, {"name": "watchdog"}]
    assert [receiver["name"] for receiver in slack.pop("receivers")] == ["ui", "watchdog"]
    assert plain == slack


def test_prometheus_serves_the_runbooks(tmp_path: Path) -> None:
    """Alerts link to a page of the Prometheus that sent them: anchors, and no template error."""
    address = f"127.0.0.1:{free_port()}"
    argv = [
        require("prometheus"),
        f"--config.file={PROMETHEUS / 'prometheus.yml'}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address={address}",
        f"--web.console.templates={PROMETHEUS / 'consoles'}",
    ]
    program = Program(argv, tmp_path / "log")
    with running(program):
        program.until(
            lambda: httpx.get(f"http://{address}/-/ready").is_success, "Prometheus is ready"
        )
        page = httpx.get(f"http://{address}/consoles/runbooks.html").raise_for_status().text

    assert '<h2 id="featuredrift"><a id="FeatureDrift">FeatureDrift</a></h2>' in page
    assert '<code>model_feature_bin:ratio{bin="missing",window="1h"}</code>' in page
