"""The dashboards have no key that is unknown to Grafana's published schema."""

import json
import warnings
from collections.abc import Iterator

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins

from tests.support.grafana import Json, dashboard, dashboard_files, panels

with warnings.catch_warnings():
    # The SDK deprecates this schema in favour of v2, which Grafana's file provisioning rejects.
    warnings.simplefilter("ignore", DeprecationWarning)
    from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def lost_keys(before: object, after: object, path: str = "") -> Iterator[str]:
    """Yield the path of every key or item of `before` that is missing in `after`."""
    if isinstance(before, dict):
        kept = after if isinstance(after, dict) else {}
        for key, value in before.items():
            if key in kept:
                yield from lost_keys(value, kept[key], f"{path}.{key}")
            else:
                yield f"{path}.{key}"
    elif isinstance(before, list):
        kept_items = after if isinstance(after, list) else []
        if len(before) != len(kept_items):
            yield f"{path}[]"
        for number, (value, kept_value) in enumerate(zip(before, kept_items, strict=False)):
            yield from lost_keys(value, kept_value, f"{path}[{number}]")


def round_trip(board: object) -> object:
    """Return the dashboard after decoding and encoding by the SDK."""
    decoded = Dashboard.from_json(json.loads(json.dumps(board)))
    again: object = json.loads(JSONEncoder().encode(decoded))
    return again


@pytest.mark.parametrize("stem", [path.stem for path in dashboard_files()])
def test_no_key_is_unknown_to_the_schema(stem: str) -> None:
    """Decoding and encoding by the SDK drops no key; it would drop a misspelt one."""
    board = dashboard(stem)

    assert list(lost_keys(board, round_trip(board))) == []


# What Grafana 12 and 13 provision from files, as far as the dashboards use it. The SDK knows the
# keys, but takes any value.
KNOWN = {
    "panels": {
        *("row", "stat", "table", "timeseries", "state-timeline", "bargauge", "barchart"),
        *("heatmap", "text"),
    },
    "transformations": {"merge", "organize", "sortBy", "groupingToMatrix"},
    "matchers": {"byName", "byRegexp"},
    "cells": {"auto", "color-text", "color-background", "gauge"},
    "colours": {"thresholds", "fixed", "shades", "palette-classic"},
    "mappings": {"value", "range"},
    "variables": {"query", "custom"},
    "calculations": {"lastNotNull", "max", "min", "mean"},
    "scales": {"linear", "log"},
}
# Older schemas are migrated when a dashboard is opened; the next is v2, which files cannot have.
SCHEMA_VERSION = 42


def words(board: Json) -> Iterator[tuple[str, str]]:
    """Yield the values of a dashboard that Grafana has a list of, with the name of the list."""
    yield from (("variables", each["type"]) for each in board["templating"]["list"])
    for panel in panels(board):
        yield "panels", panel["type"]
        yield from (("transformations", each["id"]) for each in panel.get("transformations", ()))
        reducer = panel.get("options", {}).get("reduceOptions", {})
        legend = panel.get("options", {}).get("legend", {})
        yield from (("calculations", each) for each in reducer.get("calcs", ()))
        yield from (("calculations", each) for each in legend.get("calcs", ()))
        overrides = panel.get("fieldConfig", {}).get("overrides", [])
        yield from (("matchers", each["matcher"]["id"]) for each in overrides)
        for config in configs(panel):
            yield from of_a_field(config)


def configs(panel: Json) -> Iterator[Json]:
    """Yield the configuration of all fields, and that of each override as if it were one."""
    found = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
    yield found["defaults"]
    for override in found["overrides"]:
        config: Json = {"custom": {}}
        for change in override["properties"]:
            path = change["id"].split(".")
            (config["custom"] if path[0] == "custom" else config)[path[-1]] = change["value"]
        yield config


def of_a_field(config: Json) -> Iterator[tuple[str, str]]:
    """Yield the words in one configuration."""
    custom = config.get("custom", {})
    if "color" in config:
        yield "colours", config["color"]["mode"]
    if "cellOptions" in custom:
        yield "cells", custom["cellOptions"]["type"]
    if "scaleDistribution" in custom:
        yield "scales", custom["scaleDistribution"]["type"]
    yield from (("mappings", each["type"]) for each in config.get("mappings", ()))


@pytest.mark.parametrize("stem", [path.stem for path in dashboard_files()])
def test_no_word_is_unknown_to_grafana(stem: str) -> None:
    """Types, transformations, matchers and calculations are Grafana's, and so is the version."""
    board = dashboard(stem)

    assert board["schemaVersion"] == SCHEMA_VERSION
    assert [(name, word) for name, word in words(board) if word not in KNOWN[name]] == []


def test_a_typo_is_found() -> None:
    """A misspelt key is reported in options, in targets and in the field configuration."""
    board = json.loads(json.dumps(dashboard("service")))
    panel = next(each for each in board["panels"] if each["type"] == "timeseries")
    panel["options"]["legned"] = {}
    panel["targets"][0]["legendFromat"] = ""
    panel["fieldConfig"]["defaults"]["custom"]["lineWdith"] = 1

    assert {path.rpartition(".")[2] for path in lost_keys(board, round_trip(board))} == {
        "legned",
        "legendFromat",
        "lineWdith",
    }


def test_an_unknown_word_is_found() -> None:
    """A type of panel, a transformation, a scale and a cell that Grafana does not have."""
    board = json.loads(json.dumps(dashboard("overview")))
    table = next(each for each in board["panels"] if each["type"] == "table")
    table["transformations"][0]["id"] = "marge"
    lines = next(each for each in board["panels"] if each["type"] == "timeseries")
    lines["fieldConfig"]["defaults"]["custom"]["scaleDistribution"] = {"type": "logarithmic"}
    board["panels"][1]["type"] = "singlestat"

    assert {word for name, word in words(board) if word not in KNOWN[name]} == {
        *("marge", "logarithmic", "singlestat")
    }
