"""Every dashboard query returns data from a Prometheus that scrapes a model under real traffic."""

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

# Some panels omit zeros, because 70 flat lines would hide the others. Valid traffic has only zeros
# there.
_NO_ZEROS = re.compile(r" > 0(?=\)*$)")
# Panels and columns that may be blank: alerts that are pending, what a bundle may not say,
# and what is recorded every few minutes only.
OPTIONAL_COLUMNS = {
    "Alerts": "B",
    "Signals": "E",
    "Pairs of features": "ABCDE",
    "Segments": "ABCDEF",
    # The example's features have no such bins, and the panel says so.
    "Missing or unseen": "A",
}
_LABEL_NAME = re.compile(r"\{\{(\w+)\}\}")

Series = list[dict[str, Any]]


@pytest.fixture(name="prometheus", scope="module")
def _prometheus(live_prometheus: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{live_prometheus.rstrip('/')}/api/v1", timeout=30) as client:
        yield client


@pytest.fixture(name="values", scope="module")
def _values(prometheus: httpx.Client) -> dict[str, str]:
    """Return the values of Grafana's own variables, and the first value of each other variable."""
    values = {"__rate_interval": "1m", "__range": "5m", "version": ".+", "window": "1h"}
    values["publisher"] = "publisher"
    for variable in dashboard("drift")["templating"]["list"]:
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
    """Return the series of an instant query; the error of a rejected query is Prometheus' own."""
    answer = prometheus.post("/query", data={"query": expr}).json()
    assert answer["status"] == "success", f"{answer['error']}: {expr}"
    result: Series = answer["data"]["result"]
    return result


def has_number(series: Series) -> bool:
    """Return whether any value is a number."""
    return any(math.isfinite(float(each["value"][1])) for each in series)


def name_of(query: Query, labels: dict[str, str]) -> str:
    """Return the legend of a series as Grafana writes it."""
    return _LABEL_NAME.sub(lambda found: labels.get(found[1], ""), query.legend or "")


# The example is a regression, which has nothing that only a classification records.
QUERIES = [query for query in panel_queries() if query.dashboard != "accuracy-classification"]


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_each_panel_has_data(
    query: Query, prometheus: httpx.Client, values: dict[str, str]
) -> None:
    """Under real traffic no panel is empty, and its series have distinct names."""
    if "publisher_" in query.expr:
        require_client()
    expr = _NO_ZEROS.sub("", query.substituted(values))
    if query.panel in OPTIONAL_COLUMNS and query.ref in OPTIONAL_COLUMNS[query.panel]:
        ask(prometheus, expr)
        return

    eventually(lambda: has_number(ask(prometheus, expr)), f"data for {query}: {expr}", timeout=150)

    if query.legend:
        legends = [name_of(query, each["metric"]) for each in ask(prometheus, expr)]
        assert len(set(legends)) == len(legends)


@pytest.mark.parametrize(
    ("title", "lines"),
    [
        ("Events at the spool", {"written"}),
        ("Events accepted", {"prediction", "label"}),
    ],
)
def test_the_panels_of_the_export_show_events(
    title: str, lines: set[str], prometheus: httpx.Client, values: dict[str, str]
) -> None:
    """While all events are exported, these lines and no others are above 0."""
    require_client()
    [query] = [each for each in panel_queries() if each.panel == title]

    def above_zero() -> set[str]:
        series = ask(prometheus, query.substituted(values))
        return {name_of(query, each["metric"]) for each in series if float(each["value"][1]) > 0}

    eventually(lambda: above_zero() >= lines, f"{lines} in {title}")
    assert above_zero() == lines


@pytest.mark.parametrize("query", annotation_queries(), ids=str)
def test_each_annotation_query_is_valid(
    query: Query, prometheus: httpx.Client, values: dict[str, str]
) -> None:
    """Prometheus accepts the query; it need not return anything."""
    ask(prometheus, query.substituted(values))
