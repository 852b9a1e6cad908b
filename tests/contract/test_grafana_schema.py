"""The dashboards have no key that is unknown to Grafana's published schema."""

import json
import warnings
from collections.abc import Iterator

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins

from tests.support.grafana import dashboard, dashboard_files

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
