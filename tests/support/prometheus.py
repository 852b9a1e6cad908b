"""A real Prometheus on a free port, with its data in a directory of its own."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.support.machine import free_port, require
from tests.support.processes import Program, running
from tools import ROOT

RULES = ROOT / "prometheus" / "rules"

# Where the rules mean their own step, a minute, or that of the statistics, three of them.
_MINUTE = re.compile(r"(?<=interval: )[13]m\b|(?<=offset )1m\b|(?<=\[)1m(?=:15s\])")


@dataclass(frozen=True)
class Prometheus:
    """A running Prometheus."""

    program: Program
    url: str

    def query(self, expr: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """Return an instant query's vector as (labels, value), now or at a Unix time."""
        time = {} if at is None else {"time": f"{at:.3f}"}
        response = httpx.get(f"{self.url}/api/v1/query", params={"query": expr, **time})
        answer: dict[str, Any] = response.raise_for_status().json()
        return [(each["metric"], float(each["value"][1])) for each in answer["data"]["result"]]

    def by_label(self, expr: str, label: str, at: float | None = None) -> dict[str, float]:
        """Return an instant query's vector by the value of one label, which must tell all apart."""
        found = self.query(expr, at)
        values = {labels[label]: value for labels, value in found}
        assert len(values) == len(found), f"{expr}: {label} does not tell all series apart"
        return values


@contextmanager
def running_prometheus(
    directory: Path,
    targets: Mapping[str, Sequence[str]],
    rules: Path = RULES,
    *,
    scrape_interval: str = "1s",
) -> Iterator[Prometheus]:
    """Start Prometheus, wait until every target is up, and stop it at the end of the block.

    `targets` are the addresses (a URL, or host:port) to scrape by job. `rules` is a directory.
    """
    binary = require("prometheus")
    config = directory / "prometheus.yml"
    config.write_text(yaml.safe_dump(_config(targets, rules, scrape_interval)), "utf-8")
    address = f"127.0.0.1:{free_port()}"
    argv = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={address}",
    ]
    prometheus = Prometheus(Program(argv, directory / "prometheus.log"), f"http://{address}")
    with running(prometheus.program):
        prometheus.program.until(
            lambda: httpx.get(f"{prometheus.url}/-/ready").is_success, "Prometheus is ready"
        )
        prometheus.program.until(
            lambda: _up(prometheus) == sum(map(len, targets.values())), f"{set(targets)} are up"
        )
        yield prometheus


def hurried(rules: Path, directory: Path, seconds: int) -> Path:
    """Copy rules into `directory` with `seconds` for the minute in which they count.

    Windows and `for` stay: what a window holds is summed from those minutes, however long they are.
    """
    directory.mkdir()
    for path in rules.glob("*.yml"):
        text = _MINUTE.sub(f"{seconds}s", path.read_text("utf-8"))
        # One scrape back, so that it has ended: here a scrape takes its second.
        text = text.replace(":15s]", ":1s]").replace("offset 15s", "offset 1s")
        (directory / path.name).write_text(text, "utf-8")
    return directory


def _up(prometheus: Prometheus) -> int:
    return sum(value == 1 for _, value in prometheus.query("up"))


def _config(
    targets: Mapping[str, Sequence[str]], rules: Path, scrape_interval: str
) -> dict[str, Any]:
    return {
        "global": {"scrape_interval": scrape_interval, "evaluation_interval": scrape_interval},
        "rule_files": [str(rules / "*.yml")],
        "scrape_configs": [
            {
                "job_name": job,
                "static_configs": [{"targets": [_address(each) for each in addresses]}],
            }
            for job, addresses in targets.items()
        ],
    }


def _address(target: str) -> str:
    return urlsplit(target).netloc or target
