"""Audit every lock: `./task audit`; exit status 1 after a finding, or where nothing could be found.

Writes a bill of materials (CycloneDX, JSON) for each lock into var/audit.
"""

import argparse
import subprocess
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tools import ROOT, command
from tools.audit import vulnerabilities
from tools.audit.licences import licences, objectionable
from tools.audit.locks import here
from tools.lock import GROUPS

OUTPUT = ROOT / "var" / "audit"
# What our images hold. The other locks are of machines that build, test or measure.
SHIPPED = [lock for lock in GROUPS if lock.startswith("services/")]


def main() -> int:
    """Audit."""
    parser = argparse.ArgumentParser(prog="tools.audit", description=__doc__)
    parser.add_argument("--bin", type=Path, required=True, help="where the programs are")
    programs = parser.parse_args().bin
    passed = [
        _report_vulnerabilities(programs),
        *map(_report_licences, SHIPPED),
        *(_write_bill(programs, lock) for lock in GROUPS),
    ]
    return 0 if all(passed) else 1


def _report_vulnerabilities(programs: Path) -> bool:
    found: dict[vulnerabilities.Vulnerability, list[str]] = {}
    for lock in GROUPS:
        try:
            for each in vulnerabilities.find(programs, lock):
                found.setdefault(each, []).append(lock)
        except vulnerabilities.UnreachableError as error:
            print("NOT CHECKED  vulnerabilities: the database of advisories cannot be reached")
            print(f"             {error}")
            return False
    for each, locks in found.items():
        print(f"FAILED  {each} ({', '.join(locks)})")
    if not found:
        print(f"ok      no known vulnerability in {len(GROUPS)} locks")
    return not found


def _report_licences(lock: str) -> bool:
    names = here(lock)
    found = licences(names)
    bad = objectionable(found)
    for name, licence in bad.items():
        print(f"FAILED  {lock}: {name}: licence {licence}")
    if missing := sorted({*names} - found.keys()):
        print(f"FAILED  {lock}: not installed, so its licence is unknown: {', '.join(missing)}")
    if not bad and not missing:
        print(f"ok      licences of {lock}: {_summary(found.values())}")
    return not bad and not missing


def _summary(found: Iterable[str]) -> str:
    return ", ".join(f"{licence} {count}" for licence, count in Counter(found).most_common())


def _write_bill(programs: Path, lock: str) -> bool:
    name = lock.removesuffix(".txt").replace("/", "-")
    path = OUTPUT / f"{name}.cdx.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    arguments = ["requirements", lock, "--output-format", "JSON", "--output-file", str(path)]
    done = subprocess.run(
        [programs / "cyclonedx-py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"FAILED  {lock}: {done.stderr.strip()}")
    else:
        print(f"ok      {path.relative_to(ROOT)}")
    return done.returncode == 0


if __name__ == "__main__":
    command.run(main)
