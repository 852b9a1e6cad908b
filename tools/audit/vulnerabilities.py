"""The known vulnerabilities of locked versions, by pip-audit."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tools import ROOT

_SECONDS = 300


class Vulnerability(NamedTuple):
    """One advisory against one locked package."""

    package: str
    version: str
    advisory: str
    fixed_in: Sequence[str]

    def __str__(self) -> str:
        """Return it in one line."""
        remedy = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "not fixed yet"
        return f"{self.package} {self.version}: {self.advisory}, {remedy}"


class UnreachableError(Exception):
    """The database of advisories does not answer."""


def find(bin_directory: Path, lock: str) -> list[Vulnerability]:
    """Return the vulnerabilities of a lock's packages. Raises UnreachableError."""
    command: list[str | Path] = [
        *(bin_directory / "pip-audit", "--requirement", lock, "--require-hashes", "--disable-pip"),
        *("--format", "json", "--progress-spinner", "off"),
    ]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreachableError(f"no answer in {_SECONDS} s") from None
    return parse(done.stdout, done.stderr)


def parse(output: str, errors: str) -> list[Vulnerability]:
    """Return what pip-audit found. Raises UnreachableError where it could not look."""
    try:
        report = json.loads(output)
    except ValueError:
        lines = errors.strip().splitlines() or ["pip-audit printed nothing"]
        raise UnreachableError(lines[-1]) from None
    # Where the registry does not answer, pip-audit skips all packages and reports no vulnerability.
    for each in report["dependencies"]:
        if "skip_reason" in each:
            raise UnreachableError(each["skip_reason"])
    return [
        Vulnerability(each["name"], each["version"], _name(found), found["fix_versions"])
        for each in report["dependencies"]
        for found in each["vulns"]
    ]


def _name(found: Mapping[str, Any]) -> str:
    """Return the CVE's number where it has one."""
    return next((each for each in found["aliases"] if each.startswith("CVE-")), str(found["id"]))
