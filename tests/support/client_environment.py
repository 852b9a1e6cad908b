"""Environments of programs whose dependencies are not the service's: clients, an S3 server."""

import json
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.machine import report_missing
from tools import ROOT

LOCKS = ROOT / "tests"
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


def environment() -> Path:
    """Return the directory of the clients' environment; see `_environment`."""
    return _environment("clients")


def fuzz_environment() -> Path:
    """Return the directory of schemathesis' environment; see `_environment`."""
    return _environment("fuzz")


def library_environment(name: str) -> Path:
    """Return the directory of an environment with a library of some estimators, and its needs."""
    return _environment(name, ROOT / "services" / "model")


def s3_environment() -> Path:
    """Return the directory of the S3 server's environment; see `_environment`."""
    return _environment("s3")


@cache
def _environment(name: str, locks: Path = LOCKS) -> Path:
    """Return the directory of an environment, installed where its lock has changed.

    Skips the test where packages cannot be installed, or fails it if REQUIRE_ALL=1.
    """
    lock = locks / f"requirements-{name}.txt"
    version = "{}.{}".format(*sys.version_info)
    directory = ROOT / "var" / f"{name}-{version}"
    installed = directory / "installed.txt"
    if not installed.exists() or installed.read_bytes() != lock.read_bytes():
        shutil.rmtree(directory, ignore_errors=True)
        _run([sys.executable, "-m", "venv", "--without-pip", directory])
        # A minute faster than pip, and the one that wrote the lock.
        uv = (sys.executable, "-m", "uv", "pip", "install", "--python", directory)
        _run([*uv, "--quiet", "--require-hashes", "--requirement", lock])
        shutil.copy(lock, installed)
    return directory


def _run(command: list[str | Path]) -> None:
    try:
        subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, check=True)
    except subprocess.CalledProcessError as error:
        report_missing(f"packages cannot be installed: {error.stderr.strip()[-300:]}")
    except subprocess.TimeoutExpired:
        report_missing(f"packages cannot be installed in {INSTALL_SECONDS} s")
