"""Tools that tests need, without which they are skipped or fail, and ports of this machine."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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
    "openssl": ("openssl",),
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


@contextmanager
def port_in_use() -> Iterator[int]:
    """Yield a port of 127.0.0.1 that a socket listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


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
