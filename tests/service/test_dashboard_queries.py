"""Every dashboard query, against a live Prometheus that scrapes a model under real traffic."""

import math
import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.grafana import (
    Query,
    annotation_queries,
    dashboard,
    label_values,
    panel_queries,
    substitute,
)
from tests.support.publisher import require_client
from tests.support.wait import eventually

# Zeros are left out where 70 flat lines would hide the one that is not; healthy traffic has only
# zeros there.
_NO_ZEROS = re.compile(r" > 0(?=\)*$)")
_LABEL_NAME = re.compile(r"\{\{(\w+)\}\}")

Series = list[dict[str, Any]]


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(live_prometheus: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{live_prometheus.rstrip('/')}/api/v1", timeout=30) as client:
        yield client


@pytest.fixture(name="values", scope="module")
def _values(prometheus: httpx.Client) -> dict[str, str]:
    """Return what Grafana fills in on its own, and the first that each variable offers."""
    values = {"__rate_interval": "1m", "__range": "5m", "version": ".+"}
    for variable in dashboard("model")["templating"]["list"]:
        if variable["name"] not in values:
            selector, label = label_values(variable)
            wanted = substitute(selector, values)
            offered = eventually(
                partial(_offered, prometheus, label, wanted, variable.get("regex", "")),
                f"values of {label} in {wanted}",
                timeout=150,
            )
            values[variable["name"]] = offered[0]
    return values


def _offered(prometheus: httpx.Client, label: str, selector: str, regex: str) -> list[str]:
    answer = prometheus.get(f"/label/{label}/values", params={"match[]": selector})
    offered: list[str] = answer.raise_for_status().json()["data"]
    return [value for value in offered if re.search(regex.strip("/"), value)]


def ask(prometheus: httpx.Client, expr: str) -> Series:
    """Return the series of an instant query; a refused expression fails with Prometheus' words."""
    answer = prometheus.post("/query", data={"query": expr}).json()
    assert answer["status"] == "success", f"{answer['error']}: {expr}"
    result: Series = answer["data"]["result"]
    return result


def finite(series: Series) -> bool:
    """Say whether any value is a number."""
    return any(math.isfinite(float(each["value"][1])) for each in series)


def name_of(query: Query, labels: dict[str, str]) -> str:
    """Return the legend of a series, as Grafana writes it."""
    return _LABEL_NAME.sub(lambda found: labels.get(found[1], ""), query.legend or "")


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_panel_has_data(query: Query, prometheus: httpx.Client, values: dict[str, str]) -> None:
    """The panel is not empty under real traffic, and each of its lines has a name of its own."""
    if "publisher_" in query.expr:
        require_client()
    expr = _NO_ZEROS.sub("", query.substituted(values))

    eventually(lambda: finite(ask(prometheus, expr)), f"data for {query}: {expr}", timeout=150)

    if query.legend:
        legends = [name_of(query, each["metric"]) for each in ask(prometheus, expr)]
        assert len(set(legends)) == len(legends)


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("Events at the spool", {"written"}),
        ("Events that Fiddler accepted", {"prediction", "label"}),
    ],
)
def test_export_shows_what_goes_through(
    title: str, lines: set[str], prometheus: httpx.Client, values: dict[str, str]
) -> None:
    """These lines, and no others, are above 0 while all predictions and labels are exported."""
    require_client()
    [query] = [each for each in panel_queries() if each.panel == title]

    def above_zero() -> set[str]:
        series = ask(prometheus, query.substituted(values))
        return {name_of(query, each["metric"]) for each in series if float(each["value"][1]) > 0}

    eventually(lambda: above_zero() >= lines, f"{lines} in {title}")
    assert above_zero() == lines


@pytest.mark.parametrize("query", annotation_queries(), ids=str)
def test_annotation_is_understood(
    query: Query, prometheus: httpx.Client, values: dict[str, str]
) -> None:
    """Prometheus takes the expression; what it marks need not have happened."""
    ask(prometheus, query.substituted(values))
