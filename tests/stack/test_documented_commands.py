"""Every command of the documents does what it says, on the native stack and in containers."""

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from tests.support.documents import Command, commands
from tests.support.machine import require
from tests.support.stack import Stack
from tools import ROOT
from tools.stack.settings import PORTS

# Commands that are not run here, by what they contain; a reason is printed for each.
NOT_RUN = {
    r"^git clone": "the tests run in a clone already",
    r"\bminikube\b|\bhelm\b|\bkubectl\b|\./task k8s:": "needs a Kubernetes cluster",
    r"\./task (test|lint|audit|fuzz)\b": "CI runs it by itself",
    r"\./task (bench|honesty)\b": "measures for minutes to hours",
    r"\./task (lock|version|format|render)\b": "changes files that belong to git",
    r"\./task logs": "goes on until it is interrupted",
    r"\./task soak": "goes on for minutes; tests/service/test_soak.py runs a short one",
    r"\./task report -- --(check|strict|var)": "a new stack has not recorded every series yet",
    r"\./task archive": "needs a bundle; tests/unit/bundle/test_fetch.py packs one",
    r"^aws ": "needs an object store",
    r"\./task deps:(parquet|model)": "changes the environment that the tests run in",
    r"\./task (model|rehearse)$": "needs options",
    r"\./task rehearse -- watch": "takes 20 minutes",
    r"\./task requeue": "needs a quarantine",
    r"\./task (log|erase)\b": "needs a prediction log; tests/service runs the documented queries",
    r"--push\b": "publishes to a registry",
    r"\./task replay$": "needs a prediction log",
    r"<[a-z][a-z ]*>|\b(DIR|LOG|NAME|STEP|URL)\b": "has a place to fill in",
}
ONLY = {"STACK=native": "native", "STACK=compose": "compose", "docker compose": "compose"}

pytestmark = pytest.mark.timeout(900)


class Clone:
    """A copy of the checkout with a stack of its own."""

    def __init__(self, directory: Path, kind: str) -> None:
        self.root = directory / "clone"
        own = Stack(directory).environment
        self.environment = {
            **own,
            "STACK": kind,
            "STACK_VAR": str(self.root / "var"),
            "COMPOSE_PROJECT_NAME": f"ml-monitoring-test-{secrets.token_hex(4)}",
            "CURL_HOME": str(directory),
        }
        # An answer of 4xx or 5xx is a failure.
        (directory / ".curlrc").write_text("fail-with-body\n")
        _copy_checkout(self.root)
        _write_model(self.root)

    def run(self, text: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a person types it in the clone, at this stack's ports."""
        for variable, port in PORTS.items():
            text = re.sub(
                rf"127\.0\.0\.1:{port}\b", f"127.0.0.1:{self.environment[variable]}", text
            )
        shorter = {"LOCUST_RUN_TIME": "10s"} if "loadtest" in text else {}
        return subprocess.run(
            ["bash", "-c", text],
            cwd=self.root,
            env=self.environment | shorter,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


def _write_model(directory: Path) -> None:
    """Write what the documents leave to their reader: an estimator and two tables."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame(random.normal(5, 1, (600, 2)), columns=["area", "rooms"])
    frame["price"] = frame.sum(axis=1) + random.normal(0, 1, 600)
    train, held_out = frame[:500], frame[500:]
    joblib.dump(
        LinearRegression().fit(train[["area", "rooms"]], train["price"]), directory / "my.joblib"
    )
    train.to_csv(directory / "train.csv", index=False)
    held_out.to_csv(directory / "test.csv", index=False)


def _copy_checkout(target: Path) -> None:
    """Copy what git has, or would add; .venv is this checkout's."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")


@pytest.fixture(name="clone", scope="module", params=["native", "compose"])
def _clone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Clone]:
    for tool in ("docker",) if request.param == "compose" else ("prometheus", "alertmanager"):
        require(tool)
    clone = Clone(tmp_path_factory.mktemp(request.param), request.param)
    yield clone
    clean = clone.run("./task clean")
    assert clean.returncode == 0, clean.stdout + clean.stderr


def _parameters() -> Iterator[object]:
    for command in commands():
        reason = next((why for what, why in NOT_RUN.items() if re.search(what, command.text)), None)
        marks = [pytest.mark.skip(reason=f"documented, {reason}")] if reason else []
        yield pytest.param(command, id=str(command), marks=marks)


@pytest.mark.parametrize("command", [*_parameters()])
def test_a_documented_command_succeeds(clone: Clone, command: Command) -> None:
    """It exits with 0 while the stack runs; a request is answered with a status below 400."""
    kind = clone.environment["STACK"]
    for word, only in ONLY.items():
        if word in command.text and only != kind:
            pytest.skip(f"documented, for the {only} stack only")
    up = clone.run("./task up")
    assert up.returncode == 0, up.stdout + up.stderr

    done = clone.run(command.text)
    if "./task model" in command.text:  # the next command is about the example again
        clone.run("./task up && ./task clean")

    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def test_the_documents_have_commands() -> None:
    """Or nothing was tested."""
    assert any("./task up" in command.text for command in commands())
    assert os.access(ROOT / "task", os.X_OK)
