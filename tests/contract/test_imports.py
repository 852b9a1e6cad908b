"""Imports follow the dependency direction: services never depend on what surrounds them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import ROOT

EXAMPLES = frozenset(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())
AROUND_SERVICES = frozenset({"tools", "bench", "tests", "examples"}) | EXAMPLES

# Directories, and the top-level packages that no file in them may import.
FORBIDDEN = {
    "services/model": AROUND_SERVICES | {"publisher", "traffic"},
    "services/publisher": AROUND_SERVICES | {"serving", "bundle", "traffic"},
    "services/locust": AROUND_SERVICES | {"serving", "bundle", "publisher"},
    "examples": frozenset({"tools", "bench", "tests", "serving"}),
    "k8s": AROUND_SERVICES,
    "prometheus": frozenset({"bench", "tests"}),
    "tools": frozenset({"bench", "tests"}),
    "bench": frozenset({"tests"}),
}


def imported(source: str) -> Iterator[str]:
    """Yield the top-level package of each absolute import in a source."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def sources(directory: str) -> list[Path]:
    """Return the Python files below a directory of the repository."""
    return sorted((ROOT / directory).rglob("*.py"))


@pytest.mark.parametrize("directory", FORBIDDEN)
def test_no_import_points_in_a_forbidden_direction(directory: str) -> None:
    """No file of a directory imports a package that depends on that directory."""
    files = sources(directory)

    assert files
    assert [
        f"{path.relative_to(ROOT)} imports {package}"
        for path in files
        for package in imported(path.read_text("utf-8"))
        if package in FORBIDDEN[directory]
    ] == []


def test_every_form_of_import_is_found() -> None:
    """Plain, aliased, local and from-imports are found; relative imports and strings are not."""
    source = """
import tools
import bench.wrk as wrk, json
from tests.support import wait
from . import sibling
def late():
    from traffic.rows import supply
    "import nothing"
"""
    expected = {"tools", "bench", "json", "tests", "traffic"}

    assert set(imported(source)) == expected
