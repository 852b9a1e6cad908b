"""Finds the tools that tests need, and skips or fails tests whose tools are missing."""

import os
import shutil
import subprocess
from functools import cache
from typing import NoReturn

import pytest

from tools.stack.ports import free_port as free_port  # noqa: PLC0414 re-exported

# Names of each tool's binary; Debian renames Alertmanager's.
_BINARIES = {
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool",),
    "chromium": ("chromium",),
    "curl": ("curl",),
    "git": ("git",),
    "kustomize": ("kustomize",),
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
}


def require(tool: str) -> str:
    """Return the path of `tool`; skip the test if it is missing, or fail if REQUIRE_ALL=1."""
    path = _docker() if tool == "docker" else _which(_BINARIES[tool])
    return path or report_missing(f"{tool} is not installed")


def report_missing(reason: str) -> NoReturn:
    """Skip the test for a reason, or fail it if REQUIRE_ALL=1."""
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def _which(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


@cache
def _docker() -> str | None:
    """Return the path of the docker client if its engine and Compose respond."""
    docker = shutil.which("docker")
    probes = (["info"], ["compose", "version"])
    if docker and all(
        subprocess.run([docker, *probe], capture_output=True, check=False).returncode == 0
        for probe in probes
    ):
        return docker
    return None
