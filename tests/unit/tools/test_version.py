"""`./task version` sets the version everywhere or nowhere."""

from datetime import date
from pathlib import Path

import pytest

from tests.support.k8s import copy_checkout
from tools import ROOT, version

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n- New.\n\n## [0.1.0] - 2026-11-23\n"


@pytest.fixture(name="checkout")
def _checkout(tmp_path: Path) -> Path:
    """Return a copy of what holds the version."""
    copy_checkout(tmp_path)
    for name in (".env.example", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    return tmp_path


def test_a_new_version_is_written_everywhere(checkout: Path) -> None:
    """Every place has it, the changelog has its section, and a second run changes nothing."""
    places = [name for name, _ in version.written(checkout)]

    changed = version.write("7.0.10", checkout)

    assert version.read(checkout) == "7.0.10"
    assert [*version.written(checkout)] == [(name, "7.0.10") for name in places]
    assert changed == ["CHANGELOG.md", *dict.fromkeys(places)]
    assert "\n## [7.0.10] - " in (checkout / "CHANGELOG.md").read_text("utf-8")
    assert version.write("7.0.10", checkout) == []


@pytest.mark.parametrize("bad", ["", "0.2", "v0.2.0", "0.2.0-rc.1", "0.02.0", "0.2.0\n", "1.٢.3"])
def test_what_is_no_version_is_rejected(bad: str, checkout: Path) -> None:
    """The error names the value and the expected form, and no file changes."""
    before = [*version.written(checkout)]

    with pytest.raises(version.VersionError, match=r"is not MAJOR\.MINOR\.PATCH, such as 0\.2\.0"):
        version.write(bad, checkout)
    assert [*version.written(checkout)] == before


def test_a_release_takes_what_was_unreleased() -> None:
    """The new heading stands below Unreleased and above its entries."""
    released = version.with_section(CHANGELOG, "0.2.0", date(2026, 12, 1))

    assert "## [Unreleased]\n\n## [0.2.0] - 2026-12-01\n\n- New.\n" in released


def test_a_changelog_without_unreleased_is_rejected() -> None:
    """The error names the line that is missing."""
    with pytest.raises(version.VersionError, match=r"no line '## \[Unreleased\]'"):
        version.with_section("# Changelog\n", "0.2.0", date(2026, 12, 1))


def test_a_bad_changelog_leaves_every_file_as_it_was(checkout: Path) -> None:
    """The version is written everywhere or nowhere."""
    (checkout / "CHANGELOG.md").write_text("# Changelog\n", "utf-8")
    before = [*version.written(checkout)]

    with pytest.raises(version.VersionError):
        version.write("7.0.10", checkout)
    assert [*version.written(checkout)] == before


def test_the_command_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Without an argument nothing is written."""
    assert version.main([]) == 0
    assert capsys.readouterr().out == f"{version.read()}\n"


@pytest.mark.parametrize("arguments", [["0.2"], ["0.2.0", "0.3.0"]])
def test_the_command_reports_a_bad_argument_in_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It exits with 1 and writes nothing."""
    assert version.main(arguments) == 1
    assert capsys.readouterr().err.count("\n") == 1
