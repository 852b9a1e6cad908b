"""Grafana's provisioning files and the kustomization that exports the dashboards."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.grafana import DASHBOARDS, GRAFANA, dashboard_files
from tests.support.machine import require
from tools import ROOT

DATASOURCES = GRAFANA / "provisioning" / "datasources"


def load(path: Path) -> Any:  # noqa: ANN401 (YAML)
    """Return a YAML file's content."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_datasource_is_fixed_and_finds_its_server_by_environment(name: str) -> None:
    """One datasource a file, uid = type = file's name, not editable, URL from the environment."""
    [source] = load(DATASOURCES / f"{name}.yml")["datasources"]

    assert (source["uid"], source["type"]) == (name, name)
    assert source["url"] == f"${{{name.upper()}_URL}}"
    assert source["access"] == "proxy"
    assert source["editable"] is False


def test_datasources_are_these() -> None:
    """Prometheus is the default, and its alerts are Alertmanager's."""
    sources = [source for path in DATASOURCES.iterdir() for source in load(path)["datasources"]]
    defaults = [source for source in sources if source.get("isDefault")]

    assert sorted(source["uid"] for source in sources) == ["alertmanager", "prometheus"]
    assert [source["uid"] for source in defaults] == ["prometheus"]
    assert defaults[0]["jsonData"]["alertmanagerUid"] == "alertmanager"
    assert defaults[0]["jsonData"]["httpMethod"] == "POST"


def test_time_interval_is_the_scrape_interval() -> None:
    """$__rate_interval is four scrapes only if Grafana knows how often Prometheus scrapes."""
    [source] = load(DATASOURCES / "prometheus.yml")["datasources"]
    scrape = load(ROOT / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]

    assert source["jsonData"]["timeInterval"] == scrape


def test_provider_reads_the_folder_it_lies_in() -> None:
    """The dashboards' path follows the provisioning directory of whichever stack runs Grafana."""
    [provider] = load(DASHBOARDS / "provider.yml")["providers"]

    assert provider["options"]["path"] == "${GF_PATHS_PROVISIONING}/dashboards"
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False


def test_dashboards_folder_holds_one_provider() -> None:
    """Grafana reads every YAML there as provider configuration, so nothing else may be YAML."""
    others = [path.name for path in DASHBOARDS.iterdir() if path.suffix != ".json"]

    assert others == ["provider.yml"]


def test_kustomization_exports_every_dashboard() -> None:
    """One ConfigMap per dashboard, its key prefixed against other charts' files."""
    listed = {
        each["name"]: each["files"]
        for each in load(GRAFANA / "kustomization.yaml")["configMapGenerator"]
    }

    assert listed == {
        f"grafana-dashboard-{path.stem}": [f"ml-{path.name}={path.relative_to(GRAFANA).as_posix()}"]
        for path in dashboard_files()
    }


def test_kustomization_labels_for_the_sidecar() -> None:
    """kube-prometheus-stack's sidecar finds the ConfigMaps by label, under stable names."""
    options = load(GRAFANA / "kustomization.yaml")["generatorOptions"]

    assert options["labels"] == {"grafana_dashboard": "1"}
    assert options["disableNameSuffixHash"] is True


def test_dashboards_fit_client_side_apply() -> None:
    """Below 256 KiB a ConfigMap needs no server-side apply."""
    assert [path.name for path in dashboard_files() if path.stat().st_size >= 256 * 1024] == []


def test_kustomize_builds_the_config_maps() -> None:
    """The files arrive unchanged in ConfigMaps with the sidecar's label."""
    built = subprocess.run(
        [require("kustomize"), "build", GRAFANA], capture_output=True, text=True, check=True
    )
    maps = list(yaml.safe_load_all(built.stdout))

    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    assert {key: value for each in maps for key, value in each["data"].items()} == {
        f"ml-{path.name}": path.read_text("utf-8") for path in dashboard_files()
    }
