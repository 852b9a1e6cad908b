"""The documents are correct: links, commands, paths, figures and the code of the README."""

import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from tests.support.promtool import RULES
from tools import ROOT
from tools.honesty import tables

README = ROOT / "README.md"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("examples/*/README.md"),
        ROOT / "k8s" / "README.md",
        ROOT / "prometheus" / "runbooks.md",
    )
)
MAX_README_LINES = 130
MAX_DIAGRAM_COLUMNS = 100
MAX_IMAGE_BYTES = 300_000

# The repository's own pages on its forge, relative to a file of its main branch.
FORGE = "../../actions/"

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
COMMAND = re.compile(r"\./task ([a-z0-9][a-z0-9:-]*)")

every_document = pytest.mark.parametrize("name", DOCUMENTS)


def read(name: str) -> str:
    """Return a document."""
    return (ROOT / name).read_text("utf-8")


def blocks(name: str, *languages: str) -> Iterator[str]:
    """Yield the code blocks of a document that are in one of some languages."""
    return (text for language, text in FENCE.findall(read(name)) if language in languages)


def prose(name: str) -> str:
    """Return a document without its code blocks."""
    return FENCE.sub("", read(name))


def anchors(path: Path) -> set[str]:
    """Return the anchors that a forge creates for the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(name: str) -> Iterator[str]:
    """Yield the links of a document that lead nowhere in this repository."""
    for link in LINK.findall(prose(name)):
        target = urlsplit(link)
        if target.scheme or link.startswith(FORGE):
            continue
        path = (ROOT / name).parent / target.path if target.path else ROOT / name
        if not path.exists() or (target.fragment and target.fragment not in anchors(path)):
            yield link


def test_the_readme_is_short() -> None:
    """It can be read in minutes; the rest is in docs/."""
    assert len(read("README.md").splitlines()) <= MAX_README_LINES


@every_document
def test_every_relative_link_has_a_target(name: str) -> None:
    """The file exists, and so does the anchor."""
    assert [*broken(name)] == []


def test_a_broken_link_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file and a missing anchor are reported, other addresses are not."""
    text = (
        "[a](no.md) [b](LICENSE) [c](#here) [d](#there) [e](https://x.org/y) [f](../../actions/z)"
    )
    monkeypatch.setattr("tests.contract.test_docs.read", lambda _: f"# Here\n\n{text}\n")
    monkeypatch.setattr(Path, "read_text", lambda *_: "# Here\n")

    assert [*broken("README.md")] == ["no.md", "#there"]


@every_document
def test_text_diagrams_have_at_most_100_columns(name: str) -> None:
    """The limit applies to blocks without a language and to mermaid."""
    wide = [
        line
        for block in blocks(name, "", "text", "mermaid")
        for line in block.splitlines()
        if len(line) > MAX_DIAGRAM_COLUMNS
    ]

    assert wide == []


@every_document
def test_every_command_is_a_task(name: str) -> None:
    """A command of a document never fails with "task does not exist"."""
    tasks: dict[str, Any] = yaml.safe_load(read("Taskfile.yml"))["tasks"]
    public = {task for task, content in tasks.items() if not content.get("internal")}

    unknown = {
        command
        for command in COMMAND.findall(read(name))
        if not any(fnmatch(command, task) for task in public)
    }

    assert unknown == set()


@every_document
def test_every_path_in_code_font_exists(name: str) -> None:
    """Paths that begin with a directory of this repository exist, as files or as patterns."""
    directories = "bench|docs|examples|grafana|k8s|native|prometheus|services|tests|tools"
    paths = re.findall(rf"`((?:{directories})/[\w./*-]*)`", prose(name))

    assert [path for path in paths if not [*ROOT.glob(path.rstrip("/"))]] == []


def test_images_are_small_and_used() -> None:
    """Each is smaller than 300 kB and is shown in a document."""
    images = sorted((ROOT / "docs" / "images").iterdir())
    shown = "".join(map(read, DOCUMENTS))

    assert images
    assert all(image.stat().st_size < MAX_IMAGE_BYTES for image in images)
    assert [image.name for image in images if f"images/{image.name}" not in shown] == []


def test_the_readme_links_every_alert_to_its_runbook() -> None:
    """A new alert must be added to the README."""
    rules = "\n".join(path.read_text("utf-8") for path in sorted(RULES.glob("*.yml")))
    alerts = set(re.findall(r"- alert: (\w+)", rules))
    linked = set(re.findall(r"\[(\w+)\]\(prometheus/runbooks\.md#\w+\)", read("README.md")))

    assert alerts
    assert linked == alerts


def test_the_readmes_figures_are_measured() -> None:
    """Each figure is in a generated table, or in the log of a live run."""
    documents = ("performance", "drift", "reliability")
    measured = "".join(read(f"docs/{name}.md") for name in documents)
    figures = re.findall(
        r"\d[\d,.]*\d(?= (?:%|times|predictions|ms|requests))|\d½", read("README.md")
    )

    assert len(figures) >= 6
    assert [figure for figure in figures if figure not in measured] == []


def test_the_conclusion_on_drift_quotes_its_tables() -> None:
    """Every number of episodes or hours in the text above the tables is in a cell of them."""
    text = read("docs/drift.md")
    section = text.partition("## How often the alerts are wrong")[2].partition(tables.START)[0]
    rows = [line for line in text.partition(tables.START)[2].splitlines() if line.startswith("|")]
    cells = set(re.findall(r"\d+(?:\.\d+)?", " ".join(rows)))
    quoted = re.findall(r"(\d+(?:\.\d+)?) (?:episodes|hours)", section.replace("\n", " "))

    assert len(quoted) >= 10
    assert {*quoted} <= cells
