"""What only a screen showed before: rules over the JSON that find each such fault.

Every rule returns the panels that break it. It must find none in the dashboards, and it must find
the fault in a panel that is broken on purpose, as it once was.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from serving.metrics.feedback import SCORE_EDGES
from serving.metrics.http import LATENCY_BOUNDS
from tests.support.grafana import Json, dashboard, dashboard_files, panels
from tools import ROOT

STEMS = [path.stem for path in dashboard_files()]
NARROW_SCREEN_PX = 1280
COLUMN_PX = (NARROW_SCREEN_PX - 40) / 24
CELL_PX = 16  # of padding
# Of a title: a letter of 14 px, and what the menu and the padding take.
LETTER_PX, TITLE_MARGIN_PX = 7.2, 40
AGES = ("1h", "1d", "7d", "older")
ROW_KEYS = ["id", "type", "title", "collapsed", "gridPos", "panels", "repeat"]
PANEL_KEYS = [
    *("id", "type", "title", "description", "datasource", "pluginVersion", "gridPos", "targets"),
    *("interval", "fieldConfig", "options", "transformations"),
]
Rule = Callable[[Json], Iterator[str]]


def of_type(board: Json, *types: str) -> Iterator[Json]:
    """Yield the panels of some types."""
    return (panel for panel in panels(board) if panel["type"] in types)


def defaults(panel: Json) -> Json:
    """Return the configuration of all fields of a panel."""
    found: Json = panel["fieldConfig"]["defaults"]
    return found


def custom(panel: Json) -> Json:
    """Return the part of the configuration that depends on the panel's type."""
    found: Json = defaults(panel).get("custom", {})
    return found


def steps(panel: Json) -> list[Json]:
    """Return the thresholds of a panel."""
    found: list[Json] = defaults(panel).get("thresholds", {}).get("steps", [])
    return found


def expressions(panel: Json) -> str:
    """Return all queries of a panel."""
    return "\n".join(target["expr"] for target in panel.get("targets", ()))


def dates_for_texts(board: Json) -> Iterator[str]:
    """Yield tables whose default unit is a date: Grafana makes NaN of every text."""
    for panel in of_type(board, "table"):
        if defaults(panel)["unit"].startswith("dateTime"):
            yield panel["title"]


def regions_of_alerts(board: Json) -> Iterator[str]:
    """Yield annotations that mark every minute of each series, not when an alert name began."""
    for each in board["annotations"]["list"]:
        if "ALERTS" in each["expr"]:
            starts = re.search(r"unless\s.*offset", each["expr"], re.DOTALL)
            if not starts or "by (alertname)" not in each["expr"]:
                yield each["name"]


def lost_columns(board: Json) -> Iterator[str]:
    """Yield tables whose columns do not fit on a narrow screen."""
    for panel in of_type(board, "table"):
        if sum(column_widths(panel)) > panel["gridPos"]["w"] * COLUMN_PX:
            yield panel["title"]


def column_widths(panel: Json) -> list[float]:
    """Return the least width of each column that is shown; Grafana's own least is 150 px."""
    least = custom(panel).get("minWidth", 150)
    fixed = {
        override["matcher"]["options"]: change["value"]
        for override in panel["fieldConfig"]["overrides"]
        for change in override["properties"]
        if change["id"] == "custom.width"
    }
    for each in panel.get("transformations", ()):
        if each["id"] == "organize":
            names = each["options"]["renameByName"]
            shown = each["options"]["indexByName"]
            return [fixed.get(names.get(name, name), least + CELL_PX) for name in shown]
    return []


def cut_names(board: Json) -> Iterator[str]:
    """Yield tables of alerts that cut the longest name of an alert, on a narrow screen."""
    rules = "\n".join(path.read_text() for path in (ROOT / "prometheus" / "rules").glob("*.yml"))
    longest = max(map(len, re.findall(r"- alert: (\w+)", rules)))
    for panel in of_type(board, "table"):
        if "alertname" in json.dumps(panel.get("transformations", [])):
            others = sum(column_widths(panel)[1:])
            if panel["gridPos"]["w"] * COLUMN_PX - others < longest * LETTER_PX + CELL_PX:
                yield panel["title"]


def lost_labels(board: Json) -> Iterator[str]:
    """Yield bar charts whose labels lack room for a range of numbers; 0 is an ellipsis."""
    for panel in of_type(board, "barchart"):
        if panel["options"]["xTickLabelMaxLength"] < 20:
            yield panel["title"]


def legends_of_thresholds(board: Json) -> Iterator[str]:
    """Yield states without names; with colours by threshold a legend says "< 0, 0+, 1+"."""
    for panel in of_type(board, "state-timeline"):
        named = all("text" in each for each in _mapped(panel))
        if defaults(panel)["color"]["mode"] == "thresholds" or steps(panel) or not named:
            yield panel["title"]


def _mapped(panel: Json) -> list[Json]:
    return [
        value
        for mapping in defaults(panel).get("mappings", ())
        if mapping["type"] == "value"
        for value in mapping["options"].values()
    ]


def green_ignorance(board: Json) -> Iterator[str]:
    """Yield panels in which "cannot tell" is green, as the lowest step is for a missing number."""
    for panel in of_type(board, "stat"):
        if "noValue" in defaults(panel) and steps(panel) and steps(panel)[0]["color"] == "green":
            yield panel["title"]
    for panel in panels(board):
        if re.search(r'"color": "green"[^{}]*"text": "cannot tell"', json.dumps(panel)):
            yield panel["title"]


def ends_of_intervals(board: Json) -> Iterator[str]:
    """Yield panels that show the near end of an interval below 0, such as "-10 %"."""
    for panel in of_type(board, "stat", "timeseries"):
        if re.search(r"model:mae_(excess|gap)", expressions(panel)):
            mapped = any(
                each["type"] == "range" and each["options"]["to"] == 0
                for each in defaults(panel).get("mappings", ())
            )
            if not mapped and "clamp_min" not in expressions(panel):
                yield panel["title"]


def axes_of_zeros(board: Json) -> Iterator[str]:
    """Yield axes from 0 without a top, which Grafana draws up to 100 or 10,000 % for zeros."""
    for panel in of_type(board, "timeseries"):
        if defaults(panel).get("min") == 0 and not {"max", "axisSoftMax"} & {
            *defaults(panel),
            *custom(panel),
        }:
            yield panel["title"]


def objectives_in_words_only(board: Json) -> Iterator[str]:
    """Yield charts whose description speaks of a line that is not drawn."""
    for panel in of_type(board, "timeseries"):
        speaks = re.search(r"\b(the|is at the|Lines?:?|above the) line\b|^Lines:", _words(panel))
        if speaks and (not steps(panel)[1:] or "thresholdsStyle" not in custom(panel)):
            yield panel["title"]
        drawn = [step["value"] for step in steps(panel)[1:]]
        of_predictions = (
            'handler="/predict"' in expressions(panel) and defaults(panel)["unit"] == "s"
        )
        if of_predictions and drawn != [0.3]:
            yield panel["title"]


def _words(panel: Json) -> str:
    return str(panel["description"])


def alarming_design(board: Json) -> Iterator[str]:
    """Yield rejections that alarm although no single field is at fault, as the alert asks."""
    for panel in of_type(board, "stat"):
        rejected = re.search(r"rejected_(total|rows)|status=\"4xx\"", expressions(panel))
        if rejected and steps(panel) and "by (field)" not in panel["targets"][0]["expr"]:
            yield panel["title"]


def falling_sparklines(board: Json) -> Iterator[str]:
    """Yield sparklines without a floor at 0, to which 99.95 % falls."""
    for panel in of_type(board, "stat"):
        drawn = panel["options"]["graphMode"] == "area"
        if drawn and (defaults(panel).get("min") != 0 or expressions(panel).startswith("1 -")):
            yield panel["title"]


def since_the_restart(board: Json) -> Iterator[str]:
    """Yield tables that take an alert's own start time, which ends with Prometheus."""
    for panel in of_type(board, "table"):
        for target in panel["targets"]:
            if "ALERTS_FOR_STATE" in target["expr"] and not re.search(
                r"max_over_time\(.*unless.*ALERTS.*:1m\]", target["expr"], re.DOTALL
            ):
                yield panel["title"]


def alerts_by_series(board: Json) -> Iterator[str]:
    """Yield tables of alerts with a row per series, or without links to the runbooks."""
    for panel in of_type(board, "table"):
        if "ALERTS" in expressions(panel) and "alertname" in json.dumps(panel["transformations"]):
            grouped = {
                label
                for labels in re.findall(r"by \(([^)]*)\)", expressions(panel))
                for label in labels.split(", ")
            }
            if grouped - {"alertname", "severity"} or "count by" not in expressions(panel):
                yield panel["title"]
            if "runbooks.html#${__value.raw}" not in json.dumps(panel):
                yield panel["title"]


def links_that_carry_all(board: Json) -> Iterator[str]:
    """Yield links that hand on "All" to a dashboard that takes one version."""
    for link in board["links"]:
        carried = set(re.findall(r"\$\{(\w+):queryparam\}", link.get("url", "")))
        if link["includeVars"] or not carried <= {"job", "model"}:
            yield link["title"]
    for variable in board["templating"]["list"]:
        if variable["name"] in ("job", "model") and variable["includeAll"]:
            yield str(variable["name"])


def overridden(panel: Json, name: str, path: str) -> Any:  # noqa: ANN401 (JSON)
    """Return what an override sets for a field of this name; None where none does."""
    for override in panel["fieldConfig"]["overrides"]:
        if override["matcher"]["options"] == name:
            for change in override["properties"]:
                if change["id"] == path:
                    return change["value"]
    return None


def bins_without_ranges(board: Json) -> Iterator[str]:
    """Yield bar charts over numbers of bins, which tell nobody the range that a bin covers."""
    for panel in of_type(board, "barchart"):
        by_number = "by (bin)" in expressions(panel) and not re.search(
            r"\brange\b", expressions(panel)
        )
        if by_number and not overridden(panel, panel["options"]["xField"], "mappings"):
            yield panel["title"]


def decimals_of_zeros(board: Json) -> Iterator[str]:
    """Yield shares of failures that say "0.00 %" on a healthy day."""
    for panel in of_type(board, "stat"):
        of_failures = re.search(r"error_ratio|slow_ratio|failures_total", expressions(panel))
        if of_failures and defaults(panel).get("decimals") and not defaults(panel).get("mappings"):
            yield panel["title"]


def digits_below_a_bucket(board: Json) -> Iterator[str]:
    """Yield latencies such as "4.79 ms" of a histogram whose smallest bucket is 5 ms."""
    for panel in of_type(board, "stat"):
        if re.search(r"(duration|response_time)_seconds_bucket", expressions(panel)):
            below = [each["options"].get("to") for each in defaults(panel).get("mappings", ())]
            if below != [LATENCY_BOUNDS[0]]:
                yield panel["title"]


def lines_on_the_floor(board: Json) -> Iterator[str]:
    """Yield latencies that an objective a hundred times as high presses onto the axis."""
    for panel in of_type(board, "timeseries"):
        if "thresholdsStyle" in custom(panel) and defaults(panel)["unit"] == "s":
            of_requests = "_seconds_bucket" in expressions(panel)
            scale = custom(panel).get("scaleDistribution", {}).get("type")
            if of_requests and (scale != "log" or not defaults(panel)["min"] > 0):
                yield panel["title"]


def objectives_for_rejections(board: Json) -> Iterator[str]:
    """Yield charts that measure rejections, which are by design, by the objective of failures."""
    for panel in of_type(board, "timeseries"):
        if "4xx" in expressions(panel) and steps(panel)[1:]:
            yield panel["title"]


def errors_without_a_scale(board: Json) -> Iterator[str]:
    """Yield errors with neither a promise nor 0 on the axis: 0.472 to 0.476 looks like a cliff."""
    for panel in of_type(board, "timeseries"):
        alone = re.search(r"model(_age)?:(mae|rmse|headline)\b", expressions(panel))
        if alone and "promised" not in expressions(panel) and defaults(panel).get("min") != 0:
            yield panel["title"]


def alarms_of_ignorance(board: Json) -> Iterator[str]:
    """Yield gauges that alarm where the verdict is that nobody can tell."""
    for panel in of_type(board, "table"):
        if '"gauge"' in json.dumps(panel["fieldConfig"]):
            gauge = next(each["expr"] for each in panel["targets"] if "critical" in each["expr"])
            if not re.search(r"and on .*verdict\{[^}]*\}\) >= 0", gauge, re.DOTALL):
                yield panel["title"]


def pale_texts(board: Json) -> Iterator[str]:
    """Yield texts in one grey for both themes, which is too pale in the light one."""
    for panel in of_type(board, "table"):
        for override in panel["fieldConfig"]["overrides"]:
            name = override["matcher"]["options"]
            cells = overridden(panel, name, "custom.cellOptions") or {}
            if cells.get("type") == "color-text" and '"#' in json.dumps(override):
                yield f"{panel['title']}: {name}"


def cut_titles(board: Json) -> Iterator[str]:
    """Yield titles that end in an ellipsis on a narrow screen."""
    for panel in panels(board):
        room = panel["gridPos"]["w"] * COLUMN_PX - TITLE_MARGIN_PX
        if panel["type"] != "row" and len(panel["title"]) * LETTER_PX > room:
            yield panel["title"]


def bands_without_a_name(board: Json) -> Iterator[str]:
    """Yield bands that the legend does not name."""
    for panel in of_type(board, "timeseries"):
        for override in panel["fieldConfig"]["overrides"]:
            name = override["matcher"]["options"]
            hidden = overridden(panel, name, "custom.hideFrom") or {}
            if overridden(panel, name, "custom.fillBelowTo") and hidden.get("legend"):
                yield panel["title"]


def colours_that_change(board: Json) -> Iterator[str]:
    """Yield charts by age in which an age has the colour that another panel gives another age."""
    for panel in of_type(board, "timeseries"):
        by_age = any(target["legendFormat"] == "{{age}}" for target in panel["targets"])
        if by_age and not all(overridden(panel, age, "color") for age in AGES):
            yield panel["title"]


def broken_sentences(board: Json) -> Iterator[str]:
    """Yield verdicts that make no sentence with the model's name before them."""
    for panel in of_type(board, "table"):
        for mapping in overridden(panel, "Verdict", "mappings") or ():
            for each in mapping["options"].values():
                if not re.match(r"(cannot|(?!its)[a-z]+s) ", each["text"]):
                    yield each["text"]


def verdicts_on_one_statistic(board: Json) -> Iterator[str]:
    """Yield verdicts on accuracy that know the MAE only, whatever the bundle chose."""
    for panel in of_type(board, "table"):
        for target in panel["targets"]:
            if "mae_excess" in target["expr"] and "loss_excess" not in target["expr"]:
                yield f"{panel['title']}: {target['refId']}"


def disorder(board: Json) -> Iterator[str]:
    """Yield panels whose keys or ids have an order of their own."""
    for panel in panels(board):
        order = ROW_KEYS if panel["type"] == "row" else PANEL_KEYS
        if list(panel) != [key for key in order if key in panel]:
            yield panel["title"]
    ids = [panel["id"] for panel in panels(board)]
    if ids != sorted(ids):
        yield str(ids)


RULES: list[Rule] = [
    dates_for_texts,
    regions_of_alerts,
    lost_columns,
    cut_names,
    lost_labels,
    legends_of_thresholds,
    green_ignorance,
    ends_of_intervals,
    axes_of_zeros,
    objectives_in_words_only,
    alarming_design,
    falling_sparklines,
    since_the_restart,
    alerts_by_series,
    links_that_carry_all,
    bins_without_ranges,
    decimals_of_zeros,
    digits_below_a_bucket,
    lines_on_the_floor,
    objectives_for_rejections,
    errors_without_a_scale,
    alarms_of_ignorance,
    pale_texts,
    cut_titles,
    bands_without_a_name,
    colours_that_change,
    broken_sentences,
    verdicts_on_one_statistic,
    disorder,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("stem", STEMS)
def test_no_dashboard_has_a_fault_of_the_screen(stem: str, rule: Rule) -> None:
    """The rule finds nothing to report."""
    assert list(rule(dashboard(stem))) == []


def _change(stem: str, title: str, path: str, value: Any) -> Json:  # noqa: ANN401 (JSON)
    """Return a dashboard with one value of one panel changed; None removes it."""
    board = copy.deepcopy(dashboard(stem))
    at: Any
    [at] = [panel for panel in panels(board) if panel["title"] == title] if title else [board]
    *parents, last = path.split(".")
    for key in parents:
        at = at[_key(at, key)]
    if value is None:
        del at[_key(at, last)]
    else:
        at[_key(at, last)] = value
    return board


def _key(at: object, part: str) -> int | str:
    """Return a part of a path as what it is below `at`: a place in a list, or a key."""
    return int(part) if isinstance(at, list) else part


_RAW = 'ALERTS{alertstate="firing", job="$job"}'
_FOR_STATE = "1000 * max by (alertname, severity) (ALERTS_FOR_STATE)"
_LATENCY = "Latency of POST /predict"
_PSI = 'max by (feature) (model_feature:psi_critical{job="$job"})'
_ITS = {"2": {"color": "orange", "index": 0, "text": "its predictions have drifted"}}
_OBJECTIVE = [{"color": "transparent", "value": None}, {"color": "orange", "value": 0.001}]
_AGE = "Mean absolute error by age, last hour"
_MAE = "Mean absolute error, last hour"
_HIDDEN = {"id": "custom.hideFrom", "value": {"legend": True}}
BROKEN: list[tuple[Rule, str, str, str, Any]] = [
    (dates_for_texts, "overview", "Alerts", "fieldConfig.defaults.unit", "dateTimeFromNow"),
    (regions_of_alerts, "overview", "", "annotations.list.0.expr", _RAW),
    (lost_columns, "drift", "Signals", "gridPos.w", 12),
    (cut_names, "service", "Alerts", "gridPos.w", 9),
    (lost_labels, "drift", "Bins of $feature", "options.xTickLabelMaxLength", 0),
    (
        *(legends_of_thresholds, "drift", "Verdict of the last hour"),
        *("fieldConfig.defaults.color.mode", "thresholds"),
    ),
    (
        *(green_ignorance, "accuracy-regression", "Worse than promised"),
        *("fieldConfig.defaults.thresholds.steps.0.color", "green"),
    ),
    (
        *(ends_of_intervals, "accuracy-regression", "Worse than promised"),
        *("fieldConfig.defaults.mappings", []),
    ),
    (axes_of_zeros, "drift", "Missing or unseen", "fieldConfig.defaults.custom.axisSoftMax", None),
    (objectives_in_words_only, "service", _LATENCY, "fieldConfig.defaults.thresholds.steps", []),
    (alarming_design, "overview", "Rejected", "targets.0.expr", "sum (model:rejected_rows)"),
    (falling_sparklines, "service", "Under 300 ms", "options.graphMode", "area"),
    (since_the_restart, "overview", "Alerts", "targets.2.expr", _FOR_STATE),
    (
        *(alerts_by_series, "overview", "Alerts", "targets.0.expr"),
        "count by (alertname, feature) (ALERTS)",
    ),
    (links_that_carry_all, "drift", "", "links.2.includeVars", True),
    (
        *(bins_without_ranges, "accuracy-classification", "Calibration"),
        *("fieldConfig.overrides", []),
    ),
    (decimals_of_zeros, "overview", "Errors", "fieldConfig.defaults.mappings", []),
    (digits_below_a_bucket, "service", "p99 latency", "fieldConfig.defaults.mappings", []),
    (
        *(lines_on_the_floor, "overview", _LATENCY),
        *("fieldConfig.defaults.custom.scaleDistribution", None),
    ),
    (
        *(objectives_for_rejections, "service", "Rejected and failed share by route"),
        *("fieldConfig.defaults.thresholds", {"steps": _OBJECTIVE}),
    ),
    (errors_without_a_scale, "accuracy-regression", _AGE, "fieldConfig.defaults.min", None),
    (alarms_of_ignorance, "drift", "Signals", "targets.2.expr", _PSI),
    (
        *(pale_texts, "overview", "Verdict"),
        *("fieldConfig.overrides.2.properties.0.value.0.options.-1.color", "#9fa7b3"),
    ),
    (cut_titles, "accuracy-classification", "Calibration error", "gridPos.w", 2),
    (
        *(bands_without_a_name, "accuracy-regression", _MAE),
        *("fieldConfig.overrides.1.properties.0", _HIDDEN),
    ),
    (colours_that_change, "accuracy-regression", _AGE, "fieldConfig.overrides", []),
    (
        *(broken_sentences, "overview", "Verdict"),
        *("fieldConfig.overrides.2.properties.0.value.0.options", _ITS),
    ),
    (
        *(verdicts_on_one_statistic, "overview", "Verdict", "targets.0.expr"),
        "3 * max by (model, version) (model:mae_excess > 0.1) ^ 0",
    ),
    (disorder, "drift", "Signals", "id", 99),
]


@pytest.mark.parametrize(
    ("rule", "stem", "title", "path", "value"),
    BROKEN,
    ids=[f"{rule.__name__}: {path}" for rule, _, _, path, _ in BROKEN],
)
def test_each_fault_is_found(rule: Rule, stem: str, title: str, path: str, value: object) -> None:
    """A dashboard that is broken as it once was does not pass the rule."""
    assert list(rule(_change(stem, title, path, value)))


def test_every_rule_has_a_fault_that_it_finds() -> None:
    """No rule is there that cannot fail."""
    assert {rule for rule, *_ in BROKEN} == set(RULES)


def test_the_first_panel_of_drift_says_what_drifts() -> None:
    """One wide table, ranked: both verdicts, the gauge, the shift, effective rows, a link."""
    row, first = dashboard("drift")["panels"][:2]
    links = [
        change["value"][0]["url"]
        for override in first["fieldConfig"]["overrides"]
        for change in override["properties"]
        if change["id"] == "links"
    ]

    assert row["repeat"] == "version"
    assert (first["type"], first["gridPos"]["w"], first["gridPos"]["x"]) == ("table", 24, 0)
    assert first["options"]["sortBy"] == [{"displayName": "Importance × PSI", "desc": True}]
    assert [link for link in links if "var-feature=${__value.raw}" in link] == links != []
    assert '"type": "gauge"' in json.dumps(first)
    for series in ("psi_critical", "mean_shift_sigma", "effective_rows", "verdict"):
        assert f"model_feature:{series}" in expressions(first)
    assert [window in expressions(first) for window in ('window="1h"', 'window="1d"')] == [True] * 2


def test_the_calibration_names_the_ranges_of_the_services_bins() -> None:
    """Each bin has the text of its edges in percent, so a change of the bins changes the chart."""
    [chart] = [
        p for p in panels(dashboard("accuracy-classification")) if p["title"] == "Calibration"
    ]
    [mapping] = overridden(chart, "Score", "mappings")
    edges = [f"{100 * edge:.6g}" for edge in SCORE_EDGES]
    ranges = [
        f"< {edges[0]} %",
        *(f"{low} to {high} %" for low, high in pairwise(edges)),
        f">= {edges[-1]} %",
    ]

    assert chart["options"]["xField"] == "Score"
    assert {bin_: each["text"] for bin_, each in mapping["options"].items()} == {
        f"{at:02}": text for at, text in enumerate(ranges)
    }


def test_all_tables_have_room_for_their_rows() -> None:
    """The table of signals shows twelve rows without scrolling: 36 px each, and the head."""
    [signals] = [panel for panel in panels(dashboard("drift")) if panel["title"] == "Signals"]

    assert signals["gridPos"]["h"] * 38 - 8 >= 12 * 36 + 36 + 40


@pytest.mark.parametrize(
    ("stem", "task"),
    [("accuracy-regression", "regression"), ("accuracy-classification", "classification")],
)
def test_accuracy_shows_models_of_its_task_only(stem: str, task: str) -> None:
    """Its models are those of one task, so a model of the other has no empty panels."""
    [model] = [each for each in dashboard(stem)["templating"]["list"] if each["name"] == "model"]

    assert f'task="{task}"' in model["definition"]


def test_no_other_dashboard_depends_on_the_task() -> None:
    """A panel outside of the two accuracy dashboards has an answer for both tasks."""
    regression = re.compile(r"model:(mae|rmse|bias)|model_prediction_value|promised_")
    for stem in set(STEMS) - {"accuracy-regression", "accuracy-classification"}:
        for panel in panels(dashboard(stem)):
            for target in panel.get("targets", ()):
                if regression.search(target["expr"]):
                    assert re.search(r"headline|loss_excess", target["expr"])


def test_what_links_to_a_runbook_has_its_anchor() -> None:
    """A dashboard knows the alert's name only, so the page has that as an anchor as well."""
    page = (ROOT / "prometheus" / "consoles" / "runbooks.html").read_text("utf-8")
    rules = "\n".join(path.read_text() for path in (ROOT / "prometheus" / "rules").glob("*.yml"))

    alerts = set(re.findall(r"- alert: (\w+)", rules))
    assert len(alerts) > 10
    assert alerts <= set(re.findall(r'<a id="(\w+)">', page))


def test_grafana_finds_every_folder_of_provisioning() -> None:
    """Grafana logs an error for each folder that it looks into and that is missing."""
    provisioning = ROOT / "grafana" / "provisioning"

    for name in ("alerting", "dashboards", "datasources", "plugins"):
        assert any((provisioning / name).iterdir()), name


def test_the_overview_is_the_home_of_both_stacks() -> None:
    """Both stacks name the overview's file as the home dashboard."""
    name = "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    compose = (ROOT / "compose.yaml").read_text()

    assert f"{name}: /etc/grafana/provisioning/dashboards/overview.json" in compose
    assert f'"{name}": str(' in (ROOT / "tools" / "stack" / "setup.py").read_text()


def test_grafana_asks_nobody_on_the_internet() -> None:
    """Each of its look-ups is switched off: updates, news, plugins and their keys, pictures."""
    given = (ROOT / "native" / "grafana.env").read_text()

    for line in (
        "GF_ANALYTICS_REPORTING_ENABLED=false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES=false",
        "GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false",
        "GF_NEWS_NEWS_FEED_ENABLED=false",
        "GF_PLUGINS_PLUGIN_ADMIN_ENABLED=false",
        "GF_PLUGINS_PREINSTALL_DISABLED=true",
        "GF_PLUGINS_PUBLIC_KEY_RETRIEVAL_DISABLED=true",
        "GF_SECURITY_DISABLE_GRAVATAR=true",
    ):
        assert line in given.splitlines()
