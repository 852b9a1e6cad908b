"""Print the project's version, or set it everywhere it is written.

pyproject.toml holds the version. Files that cannot read it there repeat it, as the tag of the
images; setting a version rewrites all of them and opens its section in CHANGELOG.md.
"""

import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from tools import ROOT, command

_NUMBER = "(?:0|[1-9][0-9]*)"
_VERSION = rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}"
SOURCE = "pyproject.toml"
CHANGELOG = "CHANGELOG.md"
UNRELEASED = "## [Unreleased]\n"

# Where the version is written: files, and what stands before it there.
PLACES = {
    SOURCE: r'^version = "',
    "compose.yaml": r"\$\{IMAGE_TAG:-",
    ".env.example": r"^#IMAGE_TAG=",
    "k8s/**/kustomization.yaml": r"name: ml-monitoring/\S+\n\s+newTag: ",
}


class VersionError(Exception):
    """The version cannot be set; the message is one line."""


def read(root: Path = ROOT) -> str:
    """Return the project's version."""
    version: str = tomllib.loads((root / SOURCE).read_text("utf-8"))["project"]["version"]
    return version


def written(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Yield (file, version) for every place where the version is written."""
    for path, place in _files(root):
        for found in place.finditer(path.read_text("utf-8")):
            yield path.relative_to(root).as_posix(), found["version"]


def write(version: str, root: Path = ROOT) -> list[str]:
    """Set the version everywhere; return the files that changed. Raises VersionError."""
    if not re.fullmatch(_VERSION, version):
        raise VersionError(f"{version!r} is not MAJOR.MINOR.PATCH, such as 0.2.0")
    log = root / CHANGELOG
    today = datetime.now(UTC).date()
    # All texts before the first write: a bad changelog must not leave half of the files changed.
    texts = {log: with_section(log.read_text("utf-8"), version, today)}
    for path, place in _files(root):
        texts[path] = place.sub(rf"\g<before>{version}", path.read_text("utf-8"))
    return [path.relative_to(root).as_posix() for path in texts if _replace(path, texts[path])]


def with_section(changelog: str, version: str, released: date) -> str:
    """Return the changelog with what is unreleased under a heading for `version`.

    A version that has its section keeps it. Raises VersionError.
    """
    if f"\n## [{version}]" in changelog:
        return changelog
    before, heading, unreleased = changelog.partition(UNRELEASED)
    if not heading:
        raise VersionError(f"{CHANGELOG} has no line {UNRELEASED.strip()!r}")
    return f"{before}{heading}\n## [{version}] - {released}\n{unreleased}"


def _files(root: Path) -> Iterator[tuple[Path, re.Pattern[str]]]:
    for pattern, before in PLACES.items():
        place = re.compile(f"(?P<before>{before})(?P<version>{_VERSION})", re.MULTILINE)
        for path in sorted(root.glob(pattern)):
            yield path, place


def _replace(path: Path, text: str) -> bool:
    """Write a text that is new; return whether it was."""
    if text == path.read_text("utf-8"):
        return False
    path.write_text(text, "utf-8")
    return True


def main(arguments: Sequence[str]) -> int:
    """Print the version without an argument, set it with one."""
    if not arguments:
        print(read())
        return 0
    try:
        for name in write(" ".join(arguments)):
            print(name)
    except VersionError as error:
        print(f"version: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    command.run(lambda: main(sys.argv[1:]))
