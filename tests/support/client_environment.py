"""The environment of the protocols' clients, whose dependencies are not the service's."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.machine import report_missing
from tools import ROOT

LOCK = ROOT / "tests" / "requirements-clients.txt"
SCRIPTS = ROOT / "tests" / "support" / "clients"
INSTALL_SECONDS = 600
RUN_SECONDS = 120


def run_client(script: str, **request: Any) -> Any:  # noqa: ANN401 any JSON
    """Run a script of tests/support/clients with a request as JSON; return what it prints."""
    command: list[str | Path] = [environment() / "bin" / "python", SCRIPTS / script]
    process = subprocess.run(
        command,
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout.splitlines()[-1])


@cache
def environment() -> Path:
    """Return the directory of the environment, installed where its lock has changed.

    Skips the test where packages cannot be installed, or fails it if REQUIRE_ALL=1.
    """
    version = "{}.{}".format(*sys.version_info)
    directory = ROOT / "var" / f"clients-{version}"
    installed = directory / "installed.txt"
    if not installed.exists() or installed.read_bytes() != LOCK.read_bytes():
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", directory])
        # A minute faster than pip, and the one that wrote the lock.
        uv = (sys.executable, "-m", "uv", "pip", "install", "--python", directory)
        _run([*uv, "--quiet", "--require-hashes", "--requirement", LOCK])
        shutil.copy(LOCK, installed)
    return directory


def _run(command: list[str | Path]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        report_missing(f"the clients cannot be installed: {error.stderr.strip()[-300:]}")
    except subprocess.TimeoutExpired:
        report_missing(f"the clients cannot be installed in {INSTALL_SECONDS} s")
