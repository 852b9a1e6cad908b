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
    """Return the content of a YAML file."""
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_each_datasource_is_fixed_and_takes_its_url_from_the_environment(name: str) -> None:
    """A file has one datasource, with the file's name as uid and type, that is not editable."""
    [source] = load(DATASOURCES / f"{name}.yml")["datasources"]

    assert (source["uid"], source["type"]) == (name, name)
    assert source["url"] == f"${{{name.upper()}_URL}}"
    assert source["access"] == "proxy"
    assert source["editable"] is False


def test_prometheus_is_the_default_datasource() -> None:
    """There are two datasources, and Prometheus refers to Alertmanager for its alerts."""
    sources = [source for path in DATASOURCES.iterdir() for source in load(path)["datasources"]]
    defaults = [source for source in sources if source.get("isDefault")]

    assert sorted(source["uid"] for source in sources) == ["alertmanager", "prometheus"]
    assert [source["uid"] for source in defaults] == ["prometheus"]
    assert defaults[0]["jsonData"]["alertmanagerUid"] == "alertmanager"
    assert defaults[0]["jsonData"]["httpMethod"] == "POST"


def test_the_time_interval_is_the_scrape_interval() -> None:
    """$__rate_interval spans four scrapes only if timeInterval is the scrape interval."""
    [source] = load(DATASOURCES / "prometheus.yml")["datasources"]
    scrape = load(ROOT / "prometheus" / "prometheus.yml")["global"]["scrape_interval"]

    assert source["jsonData"]["timeInterval"] == scrape


def test_the_provider_reads_its_own_folder() -> None:
    """The path of the dashboards is relative to the provisioning directory of each stack."""
    [provider] = load(DASHBOARDS / "provider.yml")["providers"]

    assert provider["options"]["path"] == "${GF_PATHS_PROVISIONING}/dashboards"
    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False


def test_the_dashboards_folder_has_one_provider() -> None:
    """The provider is the only other file, because Grafana reads every YAML there as a provider."""
    others = [path.name for path in DASHBOARDS.iterdir() if path.suffix != ".json"]

    assert others == ["provider.yml"]


def test_the_kustomization_exports_every_dashboard() -> None:
    """There is one ConfigMap per dashboard, with a prefixed key to avoid name conflicts."""
    listed = {
        each["name"]: each["files"]
        for each in load(GRAFANA / "kustomization.yaml")["configMapGenerator"]
    }

    assert listed == {
        f"grafana-dashboard-{path.stem}": [f"ml-{path.name}={path.relative_to(GRAFANA).as_posix()}"]
        for path in dashboard_files()
    }


def test_the_config_maps_have_the_sidecars_label() -> None:
    """kube-prometheus-stack's sidecar finds the ConfigMaps by their label, under stable names."""
    options = load(GRAFANA / "kustomization.yaml")["generatorOptions"]

    assert options["labels"] == {"grafana_dashboard": "1"}
    assert options["disableNameSuffixHash"] is True


def test_dashboards_fit_client_side_apply() -> None:
    """Every dashboard is smaller than 256 KiB, so it needs no server-side apply."""
    assert [path.name for path in dashboard_files() if path.stat().st_size >= 256 * 1024] == []


def test_kustomize_builds_the_config_maps() -> None:
    """The built ConfigMaps have the sidecar's label and the unchanged files."""
    built = subprocess.run(
        [require("kustomize"), "build", GRAFANA], capture_output=True, text=True, check=True
    )
    maps = list(yaml.safe_load_all(built.stdout))

    assert all(each["metadata"]["labels"]["grafana_dashboard"] == "1" for each in maps)
    assert {key: value for each in maps for key, value in each["data"].items()} == {
        f"ml-{path.name}": path.read_text("utf-8") for path in dashboard_files()
    }
