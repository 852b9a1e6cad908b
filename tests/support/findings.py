"""Reading the doctor's findings."""

from collections.abc import Iterable

from tools.doctor.findings import Finding, Level


def problems(findings: Iterable[Finding]) -> list[str]:
    """Return the texts of the problems; each must have a remedy."""
    found = [finding for finding in findings if finding.level is Level.PROBLEM]
    assert all(finding.remedy for finding in found)
    return [finding.text for finding in found]
