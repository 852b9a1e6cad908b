"""The dashboards keep the house's rules."""

import itertools
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.grafana import (
    DASHBOARDS,
    Json,
    Query,
    annotation_queries,
    dashboard,
    dashboard_files,
    known_labels,
    label_values,
    matched_labels,
    metric_names,
    panel_queries,
    panels,
    ranges,
    variable_queries,
)
from tests.support.machine import require
from tests.support.promtool import RULES

STEMS = [path.stem for path in dashboard_files()]
PANELS = [
    pytest.param(panel, id=f"{stem}: {panel['title']}")
    for stem in STEMS
    for panel in panels(dashboard(stem))
    if panel["type"] != "row"
]
# What only the publisher can tell.
EXPORT = [
    panel
    for panel in panels(dashboard("service"))
    if any("publisher_" in target["expr"] for target in panel.get("targets", ()))
]
QUERIES = panel_queries() + annotation_queries() + variable_queries()
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
# What a person picks, and what Grafana itself fills in, for a parser that knows no $.
VALUES = {
    "__rate_interval": "1m",
    "__range": "1h",
    "job": "model",
    "model": "loans",
    "version": ".+",
    "feature": "prediction",
}

on_each_dashboard = pytest.mark.parametrize("stem", STEMS)
on_each_panel = pytest.mark.parametrize("panel", PANELS)
on_each_query = pytest.mark.parametrize("query", QUERIES, ids=str)


def test_there_are_dashboards() -> None:
    """The other tests have something to look at."""
    assert {"model", "service"} <= set(STEMS)


@on_each_dashboard
def test_dashboard_has_a_fixed_identity(stem: str) -> None:
    """The uid is the file's name; Grafana's own numbers (id, version) stay out of the source."""
    board = dashboard(stem)

    assert board["uid"] == f"ml-{stem}"
    assert board["title"].startswith("ML monitoring / ")
    assert board["description"]
    assert board["tags"] == ["ml-monitoring"]
    assert board["schemaVersion"] == 42
    assert not {"id", "version", "iteration", "__inputs", "__requires"} & board.keys()


@on_each_dashboard
def test_dashboard_opens_on_the_last_hour(stem: str) -> None:
    """The time range is the drift window, in the reader's time zone, and it refreshes."""
    board = dashboard(stem)

    assert board["time"] == {"from": "now-1h", "to": "now"}
    assert board["timezone"] == "browser"
    assert board["refresh"] == "30s"


@on_each_dashboard
def test_dashboards_link_to_each_other(stem: str) -> None:
    """A link by tag leads to all of them and takes time range and variables along."""
    [link] = dashboard(stem)["links"]

    assert (link["type"], link["tags"]) == ("dashboards", ["ml-monitoring"])
    assert link["keepTime"]
    assert link["includeVars"]


@on_each_dashboard
def test_panel_ids_are_unique(stem: str) -> None:
    """Ids are positive and unique, rows included."""
    ids = [panel["id"] for panel in panels(dashboard(stem))]

    assert min(ids) > 0
    assert len(set(ids)) == len(ids)


@on_each_dashboard
def test_panels_lie_in_the_grid_without_overlap(stem: str) -> None:
    """Every panel lies within the 24 columns, and no two share a cell."""
    boxes = [panel["gridPos"] for panel in panels(dashboard(stem))]

    assert [box for box in boxes if box["x"] < 0 or box["x"] + box["w"] > 24] == []
    assert [pair for pair in itertools.combinations(boxes, 2) if _overlap(*pair)] == []


def _overlap(one: Json, two: Json) -> bool:
    return all(
        one[start] < two[start] + two[size] and two[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


@on_each_dashboard
def test_titles_are_unique(stem: str) -> None:
    """A person can name a panel."""
    titles = [panel["title"] for panel in panels(dashboard(stem))]

    assert all(titles)
    assert len(set(titles)) == len(titles)


@on_each_dashboard
def test_variables_are_defined_and_used(stem: str) -> None:
    """Every $name of a query or title is a variable with a description, and none is idle."""
    board = dashboard(stem)
    variables = board["templating"]["list"]
    names = {variable["name"] for variable in variables}
    text = json.dumps(board)
    used = set(re.findall(r"\$\{?([a-z]+)\b", text)) - {"__"}

    assert used == names
    assert all(variable["label"] and variable["description"] for variable in variables)
    assert all(variable["datasource"] == DATASOURCE for variable in variables)


@on_each_dashboard
def test_variables_refresh_and_offer_a_label(stem: str) -> None:
    """Each asks label_values of a known series, again whenever the time range changes."""
    for variable in dashboard(stem)["templating"]["list"]:
        selector, label = label_values(variable)
        [name] = metric_names(selector)

        assert label in (known_labels(name) or ())
        assert variable["refresh"] == 2
        assert variable["definition"] == variable["query"]["query"]


@on_each_panel
def test_panel_says_what_it_shows(panel: Json) -> None:
    """Title, and a description that is a sentence."""
    assert panel["title"]
    assert re.search(r"\w{2}.*[.]$", panel["description"], re.DOTALL)


@on_each_panel
def test_panel_has_a_unit(panel: Json) -> None:
    """Numbers have a unit; a heatmap's axis is what carries one."""
    if panel["type"] == "text":
        assert "targets" not in panel
    elif panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"]
    else:
        assert panel["fieldConfig"]["defaults"]["unit"]


@on_each_panel
def test_panel_asks_the_prometheus_of_both_stacks(panel: Json) -> None:
    """The datasource is `prometheus`, on the panel and on each target; refIds are unique."""
    targets = panel.get("targets", [])
    refs = [target["refId"] for target in targets]

    assert panel["type"] == "text" or (targets and panel["datasource"] == DATASOURCE)
    assert all(target["datasource"] == DATASOURCE for target in targets)
    assert len(set(refs)) == len(refs)


@on_each_panel
def test_lines_have_names(panel: Json) -> None:
    """What is drawn as several series has a legend written for people."""
    if panel["type"] in {"timeseries", "state-timeline", "bargauge"}:
        assert all(target["legendFormat"] for target in panel["targets"])
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]


@on_each_panel
def test_tables_ask_once(panel: Json) -> None:
    """A table or a bar chart shows now: its queries are instant, in table format."""
    if panel["type"] in {"table", "barchart"}:
        for target in panel["targets"]:
            assert (target["instant"], target["range"], target["format"]) == (True, False, "table")


@pytest.mark.parametrize(
    ("stem", "title", "values"),
    [
        ("model", "PSI above noise, 1 h window", [0.1]),
        ("service", "Latency of POST /predict", [0.3]),
        ("service", "Error budget burn rate", [6, 14.4]),
        ("service", "Latency budget burn rate", [6, 14.4]),
        ("service", "Age of the oldest event that waits", [600]),
    ],
)
def test_thresholds_are_drawn(stem: str, title: str, values: list[float]) -> None:
    """The lines that the rules judge by can be seen."""
    [panel] = [each for each in panels(dashboard(stem)) if each["title"] == title]
    defaults = panel["fieldConfig"]["defaults"]

    assert [step["value"] for step in defaults["thresholds"]["steps"][1:]] == values
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "dashed"


def test_the_backlogs_line_is_the_alerts() -> None:
    """The age at which the line is drawn is the one that PublisherBehind compares with."""
    rules = yaml.safe_load((RULES / "publisher.yml").read_text("utf-8"))["groups"][0]["rules"]
    [compared] = {
        float(found)
        for rule in rules
        for found in re.findall(r"publisher_backlog_age_seconds\) > (\d+)", rule["expr"])
    }
    [panel] = [each for each in EXPORT if "publisher_backlog_age_seconds" in str(each["targets"])]

    assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"][1]["value"] == compared


def test_panels_say_that_there_is_no_publisher() -> None:
    """It is optional: without it, its panels name what is missing instead of "No data"."""
    said = {panel["title"]: panel["fieldConfig"]["defaults"].get("noValue") for panel in EXPORT}

    assert len(said) >= 6
    assert set(said.values()) == {"No publisher"}


@on_each_query
def test_query_reads_series_that_exist(query: Query) -> None:
    """Every series is one of the contract or recorded by a rule, matched on labels it has."""
    names = metric_names(query.expr)
    labels = matched_labels(query.expr)

    assert names
    assert {name for name in names if known_labels(name) is None} == set()
    assert {name: used - (known_labels(name) or set()) for name, used in labels.items()} == {
        name: set() for name in labels
    }


@on_each_query
def test_query_leaves_the_window_to_grafana(query: Query) -> None:
    """Fixed windows belong to recording rules; here it is the zoom's, or the time range."""
    assert set(ranges(query.expr)) <= {"$__rate_interval", "$__range"}


@on_each_query
def test_query_of_the_model_names_its_job(query: Query) -> None:
    """A cluster's Prometheus holds other services' http_ series as well."""
    for name, labels in matched_labels(query.expr).items():
        if name.startswith(("http_", "model_", "job:", "model:")) and "variable job" not in str(
            query
        ):
            assert "job" in labels


def test_every_query_is_promql(tmp_path: Path) -> None:
    """Prometheus' own parser takes each expression, variables filled in."""
    promtool = require("promtool")
    rules = [
        {"record": f"query_{number}", "expr": query.substituted(VALUES)}
        for number, query in enumerate(QUERIES)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboards", "rules": rules}]}))

    checked = subprocess.run(
        [promtool, "check", "rules", file], capture_output=True, text=True, check=False
    )

    assert checked.returncode == 0, checked.stderr
    assert f"{len(rules)} rules found" in checked.stdout


@on_each_dashboard
def test_source_is_written_one_way(stem: str) -> None:
    """Two-space JSON, so that an export from the browser differs only in what was changed."""
    text = (DASHBOARDS / f"{stem}.json").read_text("utf-8")

    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
