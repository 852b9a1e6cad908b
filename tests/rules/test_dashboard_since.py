"""Since when an alert fires, as the dashboards ask it, on series whose history is known."""

from pathlib import Path

import pytest
import yaml

from tests.support.grafana import dashboard, panels, substitute
from tests.support.promtool import run

FIRING = 'ALERTS{alertname="FeatureDrift",alertstate="firing",job="model",severity="ticket"}'
STARTED = 'ALERTS_FOR_STATE{alertname="FeatureDrift",job="model",severity="ticket"}'
WATCHDOG = 'ALERTS{alertname="Watchdog",alertstate="firing",severity="none"}'
LABELS = '{alertname="FeatureDrift", severity="ticket"}'


def since() -> str:
    """Return the query of the overview's table of alerts, in seconds since 1970."""
    [table] = [panel for panel in panels(dashboard("overview")) if panel["title"] == "Alerts"]
    expr = substitute(table["targets"][2]["expr"], {"job": "model"})
    return f"({expr}) / 1000"


@pytest.mark.parametrize(
    ("firing", "watchdog", "own", "expected"),
    [
        ("_x30 1x90", "1x120", "1680x120", 29),
        ("_x30 1x30 stale _x8 1x51", "1x60 stale _x8 1x51", "_x70 4200x50", 29),
        ("_x10 1x20 _x29 1x60", "1x120", "3600x120", 59),
        ("1x120", "1x120", "0x120", 0),
    ],
    ids=["once", "across a restart", "again after a pause", "always"],
)
def test_since_is_the_beginning_of_what_fires_without_a_break(
    firing: str, watchdog: str, own: str, expected: int, tmp_path: Path
) -> None:
    """A restart of Prometheus is no beginning, although the alert's own start time says so."""
    inputs = [(FIRING, firing), (WATCHDOG, watchdog), (STARTED, own)]
    file = tmp_path / "since.yml"
    file.write_text(
        yaml.safe_dump(
            {
                "rule_files": [],
                "tests": [
                    {
                        "interval": "1m",
                        "input_series": [
                            {"series": name, "values": values} for name, values in inputs
                        ],
                        "promql_expr_test": [
                            {
                                "expr": since(),
                                "eval_time": "115m",
                                "exp_samples": [{"labels": LABELS, "value": 60.0 * expected}],
                            }
                        ],
                    }
                ],
            }
        )
    )

    run(file)
