"""What this machine offers to the tests, and the printed reason where it does not."""

import os
import shutil
import socket
import subprocess
from functools import cache
from typing import NoReturn

import pytest

# One name per tool in the tests; Debian renames the Alertmanager's binary.
_BINARIES = {
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool",),
    "chromium": ("chromium",),
    "git": ("git",),
    "kustomize": ("kustomize",),
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
}


def require(tool: str) -> str:
    """Return the path of `tool`, or skip the test; with REQUIRE_ALL=1 its absence is a failure."""
    path = _docker() if tool == "docker" else _which(_BINARIES[tool])
    return path or _missing(f"{tool} is not on this machine")


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _missing(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_ALL") == "1":
        pytest.fail(f"REQUIRE_ALL=1, but {reason}", pytrace=False)
    pytest.skip(reason)


def _which(names: tuple[str, ...]) -> str | None:
    return next(filter(None, map(shutil.which, names)), None)


@cache
def _docker() -> str | None:
    """Return the docker client's path when an engine answers and Compose is there."""
    docker = shutil.which("docker")
    asked = (["info"], ["compose", "version"])
    if docker and all(
        subprocess.run([docker, *words], capture_output=True, check=False).returncode == 0
        for words in asked
    ):
        return docker
    return None
