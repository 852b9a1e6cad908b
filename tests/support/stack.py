"""A native stack for one test: the checkout's code with other ports and other data."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from tests.support.machine import free_port
from tests.support.processes import environment
from tools import ROOT
from tools.stack.releases import SITES
from tools.stack.settings import PORTS, Settings, load_settings

NOWHERE = "http://127.0.0.1:9"
_STAND_IN = ROOT / "tests" / "stack" / "stand_in_grafana.py"


class Stack:
    """The `./task` of one native stack, which does not affect any other stack."""

    def __init__(self, directory: Path, **settings: str) -> None:
        ports: set[int] = set()
        while len(ports) < len(PORTS):
            ports.add(free_port())
        self.environment = environment(
            {
                "STACK": "native",
                "STACK_VAR": str(directory / "var"),
                # Variables that a .env of this checkout may set.
                **dict.fromkeys(("MODEL_BUNDLE", "LOCUST_HOST", "SLACK_WEBHOOK_FILE"), ""),
                **dict.fromkeys(("FIDDLER_URL", "FIDDLER_ORG_ID", "FIDDLER_AUTH_TOKEN"), ""),
                "PREDICTION_LOG": "",
                "GF_SECURITY_ADMIN_PASSWORD": "",
                # Nothing is downloaded, and no earlier download is used.
                **dict.fromkeys(SITES, NOWHERE),
                "XDG_CACHE_HOME": str(directory / "cache"),
                "GRAFANA_BINARY": str(_grafana(directory)),
                **{name: str(port) for name, port in zip(PORTS, sorted(ports), strict=True)},
                **settings,
            }
        )

    @property
    def settings(self) -> Settings:
        """Return the settings as the commands read them."""
        return load_settings(self.environment)

    def task(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a task and return the completed process."""
        return subprocess.run(
            [ROOT / "task", *words],
            env={**self.environment, **settings},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    def query(self, expression: str) -> dict[str, float]:
        """Return the values of a query to this stack's Prometheus by job."""
        answer = httpx.get(
            self.settings.url("PROMETHEUS_PORT", "/api/v1/query"), params={"query": expression}
        )
        found: list[Any] = answer.raise_for_status().json()["data"]["result"]
        return {one["metric"]["job"]: float(one["value"][1]) for one in found}


def _grafana(directory: Path) -> Path:
    """Write a program that imitates Grafana for the stack."""
    program = directory / "grafana"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{_STAND_IN}" "$@"\n')
    program.chmod(0o755)
    return program
