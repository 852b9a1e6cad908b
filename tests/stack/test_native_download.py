"""The native stack on a machine without Prometheus, from a stand-in for the release pages."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import require
from tests.support.releases import Page, running_page
from tests.support.stack import Stack
from tools.stack import native, releases

HIDDEN = ("prometheus", "alertmanager", "prometheus-alertmanager", "grafana", "apt-get", "brew")


@pytest.fixture(name="page", scope="module")
def _page() -> Iterator[Page]:
    with running_page() as page:
        yield page


@pytest.fixture(name="stack", scope="module")
def _stack(tmp_path_factory: pytest.TempPathFactory, page: Page) -> Iterator[Stack]:
    directory = tmp_path_factory.mktemp("download")
    stack = Stack(directory, **page.settings, PATH=str(_path_without_programs(directory)))
    for program in ("prometheus", "alertmanager"):
        script = f'#!/bin/sh\nexec "{require(program)}" "$@"\n'
        page.add(program, {program: script}, stack.environment)
    yield stack
    stack.task("down")


def _path_without_programs(directory: Path) -> Path:
    """Return a PATH with all the programs of this machine but those that are to be fetched."""
    path = directory / "bin"
    path.mkdir()
    for found in Path("/usr/bin").iterdir():
        if found.name not in HIDDEN:
            (path / found.name).symlink_to(found)
    return path


def test_up_fetches_what_is_missing_and_starts(stack: Stack) -> None:
    """Without root and package manager, one command ends with a ready stack."""
    assert shutil.which("prometheus", path=stack.environment["PATH"]) is None

    up = stack.task("up")

    assert up.returncode == 0, up.stdout + up.stderr
    assert f"downloading prometheus-{releases.VERSIONS['prometheus']}" not in up.stdout
    assert "downloading prometheus-99.1.2." in up.stdout
    assert stack.task("status").returncode == 0


def test_the_next_start_takes_it_from_the_cache(stack: Stack, page: Page) -> None:
    """Without asking the release pages again."""
    assert stack.task("down").returncode == 0
    page.asked.clear()

    up = stack.task("up")

    assert up.returncode == 0, up.stdout + up.stderr
    assert page.asked == []
    assert native.running(stack.settings)
