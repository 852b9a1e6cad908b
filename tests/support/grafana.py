"""Reads the panels and queries of Grafana's dashboards, and the names in their PromQL."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tools import ROOT

GRAFANA = ROOT / "grafana"
DASHBOARDS = GRAFANA / "provisioning" / "dashboards"

Json = dict[str, Any]

# Labels of the documented families and of Prometheus' own series; every series also has TARGET.
TARGET = {"job", "instance"}
MODEL = {"model", "version"}
SIGNAL = MODEL | {"feature"}
# The other labels of a recorded series.
RECORDED = {
    "window",
    "reference",
    "statistic",
    "bound",
    "age",
    "bin",
    "counter",
    "sign",
    "class",
    "pair",
    "outcome",
}
CONTRACT: Mapping[str, set[str]] = {
    "http_requests_total": {"handler", "method", "status"},
    "http_request_duration_seconds": {"handler", "method", "status"},
    "http_request_size_bytes": {"handler", "method", "status"},
    "http_response_size_bytes": {"handler", "method", "status"},
    "http_requests_inprogress": {"handler", "method"},
    "service_process_cpu_seconds_total": {"process"},
    "service_process_resident_memory_bytes": {"process"},
    "service_process_proportional_memory_bytes": {"process"},
    "service_process_open_fds": {"process"},
    "service_event_loop_lag_seconds": set(),
    "model_info": MODEL | {"algorithm", "task", "trained_at"},
    "model_predictions_total": MODEL,
    "model_prediction_value": MODEL,
    "model_inference_seconds": MODEL,
    "model_feature_bin_total": SIGNAL | {"bin"},
    "model_feature_reference_ratio": SIGNAL | {"bin", "range"},
    "model_feature_reference_rows": SIGNAL,
    "model_feature_zscore_sum_total": SIGNAL | {"sign"},
    "model_feature_zscore_squared_sum_total": SIGNAL,
    "model_feature_out_of_range_total": SIGNAL | {"side"},
    "model_input_rejected_total": MODEL | {"field", "reason"},
    "model_rows_rejected_total": MODEL,
    "model_monitoring_failures_total": MODEL,
    "model_feedback_total": MODEL | {"age"},
    "model_feedback_rejected_total": MODEL | {"reason"},
    "model_spool_events_total": MODEL | {"outcome"},
    "publisher_backlog_age_seconds": set(),
    "publisher_backlog_bytes": set(),
    "publisher_backlog_events": set(),
    "publisher_events_total": {"kind"},
    "publisher_failures_total": {"cause"},
    "publisher_quarantined_events_total": {"kind"},
    "publisher_stopped": {"reason"},
    "locust_requests_total": {"method", "name"},
    "locust_failures_total": {"method", "name", "reason"},
    "locust_response_time_seconds": {"method", "name"},
    "locust_traffic_info": {"scenario", "rows", "seed"},
    "locust_users": set(),
    "up": set(),
    "scrape_duration_seconds": set(),
    "ALERTS": SIGNAL | {"alertname", "alertstate", "severity", "handler", "field"},
    # Classification, and what the model says about its features.
    "model_feature_importance": SIGNAL,
    "model_prediction_bin_absolute_error": MODEL | {"bin"},
    "model_start_time_seconds": MODEL,
    "model_validation_error": MODEL | {"statistic"},
    "model_prediction_class_total": MODEL | {"class"},
    "model_prediction_score": MODEL,
    "model_segment_validation_rows": SIGNAL | {"bin", "value"},
    "ALERTS_FOR_STATE": SIGNAL | {"alertname", "severity", "handler", "field"},
}

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS = re.compile(r"\{([^}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_RANGE = re.compile(r"\[([^\]]*)\]")
_OFFSET = re.compile(r"\boffset\s+\w+|@\s*end\s*\(\s*\)")
_NAME = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(?!\s*\(|[\w:])")
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_WORDS = {"and", "or", "unless", "bool", "inf", "nan", "by", "without", "on", "ignoring"}
_SERIES_SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


@dataclass(frozen=True)
class Query:
    """A PromQL expression and its place in a dashboard."""

    dashboard: str
    panel: str
    ref: str
    expr: str
    instant: bool = False
    legend: str | None = None

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel}: {self.ref}"

    def substituted(self, values: Mapping[str, str]) -> str:
        """Return the expression with each $name of `values` replaced, as in Grafana."""
        return substitute(self.expr, values)


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Return a text with each $name of `values` replaced, longest names first."""
    for name in sorted(values, key=len, reverse=True):
        text = text.replace(f"${name}", values[name])
    return text


def dashboard_files() -> list[Path]:
    """Return the paths of the dashboards."""
    return sorted(DASHBOARDS.glob("*.json"))


@cache
def dashboard(stem: str) -> Json:
    """Return a dashboard, given its file name without .json."""
    loaded: Json = json.loads((DASHBOARDS / f"{stem}.json").read_text("utf-8"))
    return loaded


def panels(board: Json) -> Iterator[Json]:
    """Yield every panel, including rows and the panels of collapsed rows."""
    for panel in board["panels"]:
        yield panel
        yield from panel.get("panels", ())


def panel_queries() -> list[Query]:
    """Return the queries of all panels."""
    return [
        Query(
            path.stem,
            panel["title"],
            target["refId"],
            target["expr"],
            instant=target.get("instant", False),
            legend=target.get("legendFormat"),
        )
        for path in dashboard_files()
        for panel in panels(dashboard(path.stem))
        for target in panel.get("targets", ())
    ]


def annotation_queries() -> list[Query]:
    """Return the queries of all annotations."""
    return [
        Query(path.stem, f"annotation {each['name']}", "A", each["expr"])
        for path in dashboard_files()
        for each in dashboard(path.stem)["annotations"]["list"]
    ]


def variable_queries() -> list[Query]:
    """Return the selectors of all variables."""
    return [
        Query(path.stem, f"variable {each['name']}", label, selector)
        for path in dashboard_files()
        for each in dashboard(path.stem)["templating"]["list"]
        if each["type"] == "query"
        for selector, label in [label_values(each)]
    ]


def label_values(variable: Json) -> tuple[str, str]:
    """Return the selector and the label of a variable's label_values query."""
    selector, _, label = variable["query"]["query"].removeprefix("label_values(").rpartition(",")
    return selector, label.removesuffix(")").strip()


def metric_names(expr: str) -> set[str]:
    """Return the names of the series in an expression."""
    for pattern in (_STRING, _MATCHERS, _GROUPING, _RANGE, _OFFSET):
        expr = pattern.sub(" ", expr)
    return {name for name in _NAME.findall(expr) if name.lower() not in _WORDS}


def matched_labels(expr: str) -> dict[str, set[str]]:
    """Return the labels in an expression's selectors, by series name."""
    found: dict[str, set[str]] = {}
    for name, matchers in _SELECTOR.findall(expr):
        found.setdefault(name, set()).update(_LABEL.findall(_STRING.sub("", matchers)))
    return found


def ranges(expr: str) -> list[str]:
    """Return the durations of an expression's range selectors."""
    return _RANGE.findall(_STRING.sub("", expr))


def known_labels(series: str) -> set[str] | None:
    """Return the labels that a series may have, or None if the series is unknown."""
    if series in recorded_series():
        return TARGET | SIGNAL | RECORDED
    family = series if series in CONTRACT else _SERIES_SUFFIX.sub("", series)
    if family not in CONTRACT:
        return None
    return CONTRACT[family] | TARGET | ({"le"} if series.endswith("_bucket") else set())


@cache
def recorded_series() -> frozenset[str]:
    """Return the names of the series that the rules in prometheus/rules record."""
    return frozenset(
        rule["record"]
        for path in sorted((ROOT / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    )
