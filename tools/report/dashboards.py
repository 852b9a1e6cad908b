"""Read the dashboards, the same files that Grafana shows."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml

from tools import ROOT

DIRECTORY = ROOT / "grafana" / "provisioning" / "dashboards"
DATASOURCE = ROOT / "grafana" / "provisioning" / "datasources" / "prometheus.yml"

Json = dict[str, Any]


def dashboards() -> list[Json]:
    """Return every dashboard, in the order of the links at the top of each."""
    boards = [json.loads(path.read_text("utf-8")) for path in sorted(DIRECTORY.glob("*.json"))]
    links = [link["url"] for link in boards[0]["links"]]

    def place(board: Json) -> int:
        # A link may end in a variable, as /d/ml-accuracy-$task does.
        starts = [url.removeprefix("/d/").partition("?")[0].partition("$")[0] for url in links]
        fits = (n for n, start in enumerate(starts) if board["uid"].startswith(start))
        return next(fits, len(starts))

    return sorted(boards, key=place)


def panels(board: Mapping[str, Any]) -> Iterator[Json]:
    """Yield every panel but the rows, with the panels of collapsed rows."""
    for panel in board["panels"]:
        if panel["type"] == "row":
            yield from panel.get("panels", ())
        else:
            yield panel


@cache
def scrape_interval() -> str:
    """Return the interval that the data source says Prometheus scrapes at."""
    [source] = yaml.safe_load(DATASOURCE.read_text("utf-8"))["datasources"]
    return str(source["jsonData"]["timeInterval"])
