"""What an audit finds, and that it never takes silence for a pass."""

import json
from email.message import Message
from importlib.metadata import Distribution
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tools.audit.licences import UNKNOWN, licence_of, objectionable
from tools.audit.locks import here, requirements
from tools.audit.vulnerabilities import UnreachableError, parse
from tools.lock import GROUPS

REPORT = {
    "dependencies": [
        {"name": "good", "version": "1.0", "vulns": []},
        {
            "name": "bad",
            "version": "2.0",
            "vulns": [
                {"id": "PYSEC-1", "fix_versions": ["2.1"], "aliases": ["CVE-2026-1"]},
                {"id": "GHSA-2", "fix_versions": [], "aliases": []},
            ],
        },
    ],
    "fixes": [],
}


def package(*headers: tuple[str, str]) -> Distribution:
    """Return a package with some metadata."""
    metadata = Message()
    for name, value in headers:
        metadata[name] = value
    return cast("Distribution", SimpleNamespace(metadata=metadata))


def test_every_advisory_is_reported_with_its_remedy() -> None:
    """In one line each, by its CVE's number if it has one."""
    assert [*map(str, parse(json.dumps(REPORT), ""))] == [
        "bad 2.0: CVE-2026-1, fixed in 2.1",
        "bad 2.0: GHSA-2, not fixed yet",
    ]


def test_a_package_that_was_skipped_is_no_pass() -> None:
    """As pip-audit skips all of them where the registry does not answer."""
    report = {"dependencies": [{"name": "skipped", "skip_reason": "not found"}], "fixes": []}
    with pytest.raises(UnreachableError, match="not found"):
        parse(json.dumps(report), "")


@pytest.mark.parametrize(
    ("errors", "reason"), [("a\nConnectionError: x\n", "ConnectionError: x"), ("", "nothing")]
)
def test_no_answer_is_no_pass(errors: str, reason: str) -> None:
    """What pip-audit says last is the reason."""
    with pytest.raises(UnreachableError, match=reason):
        parse("", errors)


@pytest.mark.parametrize(
    ("headers", "licence"),
    [
        ([("License-Expression", "MIT"), ("License", "other")], "MIT"),
        ([("Classifier", "License :: OSI Approved :: BSD License")], "BSD License"),
        ([("Classifier", "Topic :: X"), ("License", "BSD\nlong text")], "BSD"),
        ([], UNKNOWN),
    ],
)
def test_a_licence_is_what_the_metadata_states(
    headers: list[tuple[str, str]], licence: str
) -> None:
    """First the expression, then the classifiers, then the text."""
    assert licence_of(package(*headers)) == licence


@pytest.mark.parametrize(
    ("licence", "is_bad"),
    [
        *(("MIT", False), ("MPL-2.0", False), ("LGPL-2.1-or-later", False)),
        ("GNU Lesser General Public License v3", False),
        ("MIT OR GPL-3.0-only", False),
        *(("GPL-3.0-only", True), ("AGPL-3.0", True), (UNKNOWN, True)),
        ("GNU General Public License v3 (GPLv3)", True),
        ("GNU Affero General Public License v3", True),
    ],
)
def test_copyleft_and_no_licence_are_objected_to(licence: str, is_bad: bool) -> None:  # noqa: FBT001
    """Unless there is a choice."""
    assert bool(objectionable({"package": licence})) == is_bad


@pytest.mark.parametrize("lock", GROUPS)
def test_every_lock_is_read_completely(lock: str) -> None:
    """Each of its entries has hashes, so as many entries are found as there are lists of them."""
    entries: list[Any] = [*requirements(lock)]
    text = (here.__globals__["ROOT"] / lock).read_text()

    assert len(entries) == sum("==" in line and line[:1].isalnum() for line in text.splitlines())
    assert entries
    assert here(lock)
