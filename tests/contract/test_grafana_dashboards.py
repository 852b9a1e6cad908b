"""The dashboards follow the project's conventions."""

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
from tools import ROOT

STEMS = [path.stem for path in dashboard_files()]
PANELS = [
    pytest.param(panel, id=f"{stem}: {panel['title']}")
    for stem in STEMS
    for panel in panels(dashboard(stem))
    if panel["type"] != "row"
]
# Panels of the publisher's metrics.
EXPORT = [
    panel
    for panel in panels(dashboard("export"))
    if any("publisher_" in target["expr"] for target in panel.get("targets", ()))
]
QUERIES = panel_queries() + annotation_queries() + variable_queries()
DATASOURCE = {"type": "prometheus", "uid": "prometheus"}
# Values for the variables of the dashboards and of Grafana, which promtool cannot parse.
VALUES = {
    "__rate_interval": "1m",
    "__range": "1h",
    "job": "model",
    "model": "loans",
    "version": ".+",
    "feature": "prediction",
    "window": "1h",
    "task": "regression",
    "publisher": "publisher",
}

on_each_dashboard = pytest.mark.parametrize("stem", STEMS)
on_each_panel = pytest.mark.parametrize("panel", PANELS)
on_each_query = pytest.mark.parametrize("query", QUERIES, ids=str)


def test_the_dashboards_are_found() -> None:
    """There is one per question, and accuracy is asked differently of each task."""
    assert STEMS == [
        "accuracy-classification",
        "accuracy-regression",
        "drift",
        "export",
        "load",
        "overview",
        "service",
        "versions",
    ]


@on_each_dashboard
def test_each_dashboard_has_a_fixed_identity(stem: str) -> None:
    """The uid derives from the file's name, and keys that Grafana generates are absent."""
    board = dashboard(stem)

    assert board["uid"] == f"ml-{stem}"
    assert board["title"].startswith("ML monitoring / ")
    assert board["description"]
    assert board["tags"] == ["ml-monitoring"]
    assert board["schemaVersion"] == 42
    assert not {"id", "version", "iteration", "__inputs", "__requires"} & board.keys()


@on_each_dashboard
def test_each_dashboard_opens_on_the_last_hour(stem: str) -> None:
    """The range is the drift window, in the browser's time zone, refreshed every 30 s."""
    board = dashboard(stem)

    assert board["time"] == {"from": "now-1h", "to": "now"}
    assert board["timezone"] == "browser"
    assert board["refresh"] == "30s"


@on_each_dashboard
def test_dashboards_link_to_each_other(stem: str) -> None:
    """The same links are on all; they keep the time range, and accuracy's follows the task."""
    links = dashboard(stem)["links"]
    uids = {path.partition("?")[0].removeprefix("/d/") for path in (each["url"] for each in links)}

    assert links == dashboard("overview")["links"]
    assert all(link["keepTime"] for link in links)
    assert {uid for name in ("regression", "classification") for uid in _for_task(uids, name)} == {
        f"ml-{name}" for name in STEMS
    }


def _for_task(uids: set[str], task: str) -> set[str]:
    return {uid.replace("$task", task) for uid in uids}


@on_each_dashboard
def test_panel_ids_are_unique(stem: str) -> None:
    """Ids are positive and unique, including those of rows."""
    ids = [panel["id"] for panel in panels(dashboard(stem))]

    assert min(ids) > 0
    assert len(set(ids)) == len(ids)


@on_each_dashboard
def test_panels_do_not_overlap(stem: str) -> None:
    """Every panel is within the 24 columns, and no two panels overlap."""
    boxes = [panel["gridPos"] for panel in panels(dashboard(stem))]

    assert [box for box in boxes if box["x"] < 0 or box["x"] + box["w"] > 24] == []
    assert [pair for pair in itertools.combinations(boxes, 2) if _overlap(*pair)] == []


def _overlap(one: Json, two: Json) -> bool:
    return all(
        one[start] < two[start] + two[size] and two[start] < one[start] + one[size]
        for start, size in (("x", "w"), ("y", "h"))
    )


@on_each_dashboard
def test_panel_titles_are_unique(stem: str) -> None:
    """Every panel has a title that no other panel of the dashboard has."""
    titles = [panel["title"] for panel in panels(dashboard(stem))]

    assert all(titles)
    assert len(set(titles)) == len(titles)


@on_each_dashboard
def test_variables_are_defined_and_used(stem: str) -> None:
    """Every $name is a variable with a description, and every variable is used."""
    board = dashboard(stem)
    variables = board["templating"]["list"]
    names = {variable["name"] for variable in variables}
    text = json.dumps(board)
    used = set(re.findall(r"\$\{?([a-z]+)\b", text)) - {"__"}

    assert used == names
    assert all(variable["label"] and variable["description"] for variable in variables)
    assert all(each["datasource"] == DATASOURCE for each in variables if each["type"] == "query")


@on_each_dashboard
def test_variables_query_labels_of_known_series(stem: str) -> None:
    """Each variable queries label_values and refreshes whenever the time range changes."""
    for variable in dashboard(stem)["templating"]["list"]:
        if variable["type"] == "custom":
            continue
        selector, label = label_values(variable)
        [name] = metric_names(selector)

        assert label in (known_labels(name) or ())
        assert variable["refresh"] == 2
        assert variable["definition"] == variable["query"]["query"]


@on_each_panel
def test_each_panel_has_a_title_and_a_description(panel: Json) -> None:
    """The description ends like a sentence."""
    assert panel["title"]
    assert re.search(r"\w{2}.*[.]$", panel["description"], re.DOTALL)


@on_each_panel
def test_each_panel_has_a_unit(panel: Json) -> None:
    """Every panel with queries has a unit; that of a heatmap is on its axis."""
    if panel["type"] == "text":
        assert "targets" not in panel
    elif panel["type"] == "heatmap":
        assert panel["options"]["yAxis"]["unit"]
    else:
        assert panel["fieldConfig"]["defaults"]["unit"]


@on_each_panel
def test_each_panel_queries_the_provisioned_datasource(panel: Json) -> None:
    """The datasource of the panel and of each target is `prometheus`; refIds are unique."""
    targets = panel.get("targets", [])
    refs = [target["refId"] for target in targets]

    assert panel["type"] == "text" or (targets and panel["datasource"] == DATASOURCE)
    assert all(target["datasource"] == DATASOURCE for target in targets)
    assert len(set(refs)) == len(refs)


@on_each_panel
def test_panels_with_several_series_have_a_legend(panel: Json) -> None:
    """Every target of such a panel has a legend format, and time series show the legend."""
    if panel["type"] in {"timeseries", "state-timeline", "bargauge"}:
        assert all(target["legendFormat"] for target in panel["targets"])
    if panel["type"] == "timeseries":
        assert panel["options"]["legend"]["showLegend"]


@on_each_panel
def test_tables_use_instant_queries(panel: Json) -> None:
    """Queries of tables and bar charts are instant and in table format."""
    if panel["type"] in {"table", "barchart"}:
        for target in panel["targets"]:
            assert (target["instant"], target["range"], target["format"]) == (True, False, "table")


@pytest.mark.parametrize(
    ("stem", "title", "values"),
    [
        ("drift", "PSI above noise", [0.1]),
        ("drift", "Out of training's range", [0.02]),
        ("overview", "Latency of POST /predict", [0.3]),
        ("load", "p95 latency: client and server", [0.3]),
        ("accuracy-regression", "Worse at least by", [0.1]),
        ("service", "Latency of POST /predict", [0.3]),
        ("service", "Error budget burn rate", [6, 14.4]),
        ("service", "Latency budget burn rate", [6, 14.4]),
        ("export", "Age of the oldest event that waits", [600]),
    ],
)
def test_thresholds_are_drawn(stem: str, title: str, values: list[float]) -> None:
    """A panel shows the thresholds of the rules as dashed lines."""
    [panel] = [each for each in panels(dashboard(stem)) if each["title"] == title]
    defaults = panel["fieldConfig"]["defaults"]

    assert [step["value"] for step in defaults["thresholds"]["steps"][1:]] == values
    assert defaults["custom"]["thresholdsStyle"]["mode"] == "dashed"


def test_the_backlogs_threshold_is_that_of_the_alert() -> None:
    """The threshold of the panel is the age that the alert PublisherBehind compares with."""
    rules = yaml.safe_load((RULES / "publisher.yml").read_text("utf-8"))["groups"][0]["rules"]
    [compared] = {
        float(found)
        for rule in rules
        for found in re.findall(r"publisher_backlog_age_seconds\[5m\]\)\) > (\d+)", rule["expr"])
    }
    backlog = [each for each in EXPORT if "publisher_backlog_age_seconds" in str(each["targets"])]
    limits = re.findall(r'"value": (\d+)', json.dumps([each["fieldConfig"] for each in backlog]))

    assert len(backlog) == 2
    assert [float(limit) for limit in limits if float(limit) == compared] == [compared] * 2


def test_without_a_publisher_the_export_says_what_to_set() -> None:
    """The first panel names the settings, as the documents do; no other panel is empty.

    Those of the publishers are in a row that is closed, and repeated for each destination.
    """
    first, spool, row = dashboard("export")["panels"]
    words = first["fieldConfig"]["defaults"]["noValue"]
    settings = re.findall(r"FIDDLER_\w+", words)
    documented = (ROOT / ".env.example").read_text()

    assert len(settings) == 3
    assert all(f"#{name}=" in documented for name in settings)
    assert "./task up" in words
    assert "publisher_" not in str(spool["targets"])
    assert (row["type"], row["collapsed"], row["repeat"]) == ("row", True, "publisher")
    assert len(row["panels"]) == 6


def test_the_export_is_shown_by_destination() -> None:
    """Each publisher has a job of its own, and every query of the dashboard selects by it."""
    for panel in EXPORT:
        for target in panel["targets"]:
            labels = matched_labels(target["expr"])
            assert {name for name, used in labels.items() if "job" not in used} == set()
            assert "$publisher" in target["expr"]


@on_each_query
def test_each_query_reads_existing_series(query: Query) -> None:
    """Every series is documented or recorded by a rule and has the labels in its selector."""
    names = metric_names(query.expr)
    labels = matched_labels(query.expr)

    assert names
    assert {name for name in names if known_labels(name) is None} == set()
    assert {name: used - (known_labels(name) or set()) for name, used in labels.items()} == {
        name: set() for name in labels
    }


@on_each_query
def test_each_query_uses_grafanas_windows(query: Query) -> None:
    """Range selectors use $__rate_interval or $__range; fixed windows are in recording rules.

    Two panels show what an alert compares, over its own window: since when it fires, and the
    share of rows that it counts.
    """
    fixed = {"Alerts": {"5m", "1d:1m"}, "Rejected": {"15m"}}.get(query.panel, set())

    assert set(ranges(query.expr)) <= {"$__rate_interval", "$__range"} | fixed


@on_each_query
def test_no_count_of_labels_is_extrapolated(query: Query) -> None:
    """`increase` said 2,409 of 2,400 labels; the recorded figures beside it are exact."""
    assert not re.search(r"increase\(\s*model_feedback", query.expr)


@on_each_query
def test_each_query_of_the_model_selects_its_job(query: Query) -> None:
    """Other services in a cluster may have http_ series, so selectors match on the job."""
    for name, labels in matched_labels(query.expr).items():
        if name.startswith(
            ("http_", "service_", "model_", "job:", "model:")
        ) and "variable job" not in str(query):
            assert "job" in labels


def test_every_query_is_valid_promql(tmp_path: Path) -> None:
    """Prometheus' parser accepts each expression after its variables are replaced."""
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
def test_each_dashboard_is_formatted_consistently(stem: str) -> None:
    """The JSON has two-space indentation, so that an export from Grafana has a minimal diff."""
    text = (DASHBOARDS / f"{stem}.json").read_text("utf-8")

    assert text == json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
