"""The example is walled off: nothing else in the repository knows it."""

import re
import subprocess

from tests.support.machine import require
from tools import ROOT

WORDS = re.compile(r"\b(?:wines?|red|whites?|alcohol)\b|wine_quality", re.IGNORECASE)

# Where the example may be named, and why. A directory ends with a slash.
ALLOWED = {
    "examples/": "it is the example",
    "tests/unit/examples/": "its tests",
    "tests/contract/test_example.py": "this list",
    "README.md": "shows the example",
    "docs/": "shows the example",
    "CHANGELOG.md": "says what changed, in the example as well",
    "NOTICE": "credits the data",
}
# A colour of Grafana's: "red" is what panels call it, and what their descriptions explain.
COLOURS = ("grafana/provisioning/dashboards/", "tools/report/", "tests/unit/tools/report/")


def _tracked() -> list[str]:
    listed = subprocess.run(
        [require("git"), "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


def _words(path: str) -> list[str]:
    found = WORDS.findall((ROOT / path).read_text("utf-8", errors="ignore"))
    if path.startswith(COLOURS):
        found = [word for word in found if word.lower() != "red"]
    return [f"{path}: {word}" for word in found]


def test_nothing_but_the_example_knows_what_it_is_about() -> None:
    """Another example takes its place, and no other file changes."""
    paths = [path for path in _tracked() if not path.startswith(tuple(ALLOWED))]

    assert len(paths) > 100
    assert [line for path in paths for line in _words(path)] == []


def test_what_is_searched_for_would_be_found() -> None:
    """The example's own files hold the words."""
    assert _words("examples/wine_quality/train.py")
    assert _words("tests/contract/test_example.py")
