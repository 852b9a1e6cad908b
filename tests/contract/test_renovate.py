"""Renovate finds every version that is pinned, and no new kind of pin escapes it."""

import fnmatch
import json
import re
from typing import Any

import pytest

from tools import ROOT
from tools.k8s import CHART, CHART_VERSION, CHARTS
from tools.lock import GROUPS
from tools.stack.releases import VERSIONS

CONFIG: dict[str, Any] = json.loads((ROOT / ".github" / "renovate.json").read_text())
# By its documentation, what each manager looks at without further configuration.
DEFAULTS = {
    "docker-compose": r"(^|/)(?:docker-)?compose[^/]*\.ya?ml$",
    "dockerfile": r"(^|/|\.)([Dd]ocker|[Cc]ontainer)file$",
    "github-actions": r"(^|/)\.github/(?:workflows|actions)/.+\.ya?ml$",
    "pep621": r"(^|/)pyproject\.toml$",
}


def found(file: str) -> list[dict[str, str]]:
    """Return what the custom managers capture in a file."""
    text = (ROOT / file).read_text()
    return [
        match.groupdict()
        for manager in CONFIG["customManagers"]
        if any(fnmatch.fnmatch(file, each) for each in manager["managerFilePatterns"])
        for pattern in manager["matchStrings"]
        for match in re.finditer(pattern.replace("(?<", "(?P<"), text)
    ]


def test_the_chart_is_found() -> None:
    """By its name, its repository and its version."""
    assert found("tools/k8s.py") == [
        {"depName": CHART, "registryUrl": CHARTS, "currentValue": CHART_VERSION}
    ]


def test_the_native_releases_are_found() -> None:
    """Each program's, once."""
    captured = found("tools/stack/releases.py")

    assert {each["depName"]: each["currentValue"] for each in captured} == VERSIONS
    assert len(captured) == len(VERSIONS)


@pytest.mark.parametrize("lock", GROUPS)
def test_every_lock_is_found(lock: str) -> None:
    """By the pattern that replaces the manager's own, which does not know all of them."""
    (pattern,) = CONFIG["pip_requirements"]["managerFilePatterns"]

    assert re.search(pattern.strip("/"), lock)


@pytest.mark.parametrize(
    ("manager", "files"),
    [
        ("docker-compose", ["compose.yaml"]),
        ("dockerfile", ["services/Dockerfile"]),
        ("github-actions", [".github/workflows/ci.yml", ".github/workflows/images.yml"]),
        ("pep621", ["pyproject.toml"]),
    ],
)
def test_every_other_file_with_pins_is_found(manager: str, files: list[str]) -> None:
    """By the manager's own pattern, which is enabled."""
    assert manager in CONFIG["enabledManagers"]
    assert all(re.search(DEFAULTS[manager], each) for each in files)
    assert all((ROOT / each).is_file() for each in files)
