"""The project's version is the same wherever it is written."""

import pytest

from tools import ROOT, version


@pytest.mark.parametrize("pattern", version.PLACES)
def test_every_place_of_the_version_is_found(pattern: str) -> None:
    """A file that is renamed or rewritten is not silently missed by `./task version`."""
    files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}

    assert files & {name for name, _ in version.written()}


def test_every_place_has_the_projects_version() -> None:
    """pyproject.toml is the source; `./task version -- X.Y.Z` writes the other places."""
    stale = [(name, found) for name, found in version.written() if found != version.read()]

    assert stale == []


def test_the_changelog_has_a_section_for_the_version() -> None:
    """Every release is described, and there is a section for unreleased changes."""
    changelog = (ROOT / version.CHANGELOG).read_text("utf-8")

    assert f"\n## [{version.read()}] - " in changelog
    assert f"\n{version.UNRELEASED}" in changelog
