"""Find the programs that do not come from PyPI, and bring those that the stack needs."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tools.stack import download, packages, releases
from tools.stack.settings import StackError

Version = tuple[int, ...]

# Prometheus: the rules use keep_firing_for, which came with 2.42. Alertmanager and Grafana: the
# oldest that the configuration and the dashboards were tried with.
MINIMUM: Mapping[str, Version] = {"prometheus": (2, 42), "alertmanager": (0, 25), "grafana": (12,)}
NEEDED = ("prometheus", "alertmanager")

# Debian calls the Alertmanager prometheus-alertmanager.
_NAMES = {
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "grafana": ("grafana",),
}
_PLACES = "/usr/local/bin:/opt/homebrew/bin:/usr/sbin:/usr/share/grafana/bin"
_RETRY_SECONDS = 86400.0
"""How long `up` does not try again to download a program that it can do without."""


@dataclass(frozen=True)
class Binary:
    """A program on this machine."""

    path: str
    version: Version = ()
    debian: bool = False
    """Whether Debian built it: such a Prometheus or Alertmanager lacks its web pages."""


def variable(program: str) -> str:
    """Return the environment variable that names another binary for a program."""
    return f"{program.upper()}_BINARY"


def find(program: str, environment: Mapping[str, str]) -> Binary | None:
    """Return the binary that a variable names, else a recent one: official ones come first."""
    if given := environment.get(variable(program)):
        path = shutil.which(given)
        return Binary(path) if path else None
    recent = [each for each in installed(program, environment) if each.version >= MINIMUM[program]]
    official = [each for each in recent if not each.debian]
    cached = releases.cached(program, environment)
    return next(iter([*official, *([Binary(cached)] if cached else []), *recent]), None)


def installed(program: str, environment: Mapping[str, str]) -> Iterator[Binary]:
    """Yield a program under each of its names on PATH, of whatever version."""
    path = os.pathsep.join(filter(None, (environment.get("PATH"), _PLACES)))
    for name in _NAMES[program]:
        if binary := shutil.which(name, path=path):
            yield examine(binary)


def examine(path: str) -> Binary:
    """Ask a program for its version; one that does not say has the version ()."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return Binary(path)
    text = (done.stdout + done.stderr).decode(errors="replace")
    found = re.search(r"version v?(\d+)\.(\d+)", text)
    version = tuple(map(int, found.groups())) if found else ()
    return Binary(path, version, "debian" in text.lower())


def grafana_home(binary: str) -> str:
    """Return the directory of Grafana's own files, as its archive, brew or Debian lays them out."""
    path = Path(binary).resolve()
    homes = (path.parents[1], path.parents[1] / "share" / "grafana")
    return str(next((home for home in homes if (home / "conf").is_dir()), homes[-1]))


def bring(environment: Mapping[str, str]) -> dict[str, Binary]:
    """Return every program to run, having downloaded or installed what is missing.

    Raises StackError where Prometheus or the Alertmanager cannot be had; Grafana may be missing.
    """
    _check_named(environment)
    found = _found(environment)
    missing = [program for program in MINIMUM if program not in found]
    if not missing:
        return found
    failed: dict[str, str] = {}
    if set(missing) & set(NEEDED) or not _failed_lately(environment):
        failed = fetch(missing, environment)
        found = _found(environment)
    needed = [program for program in NEEDED if program not in found]
    if needed:
        declined = packages.install(needed)
        found = _found(environment)
        _check_needed(found, failed, declined, environment)
    return found


def fetch(programs: Sequence[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Download programs and print what failed; return the reasons."""
    failed = download.fetch(programs, environment)
    for reason in sorted(set(failed.values())):
        names = " and ".join(program for program in failed if failed[program] == reason)
        print(f"could not download {names}: {reason}", flush=True)
    stamp = _stamp(environment)
    if failed and stamp.parent.is_dir():
        stamp.touch()
    return failed


def _found(environment: Mapping[str, str]) -> dict[str, Binary]:
    return {name: each for name in MINIMUM if (each := find(name, environment))}


def _check_named(environment: Mapping[str, str]) -> None:
    for name in map(variable, MINIMUM):
        given = environment.get(name)
        if given and not shutil.which(given):
            raise StackError(f"{name}={given}: there is no such program")


def _stamp(environment: Mapping[str, str]) -> Path:
    return releases.cache(environment) / "failed"


def _failed_lately(environment: Mapping[str, str]) -> bool:
    try:
        return time.time() - _stamp(environment).stat().st_mtime < _RETRY_SECONDS
    except OSError:
        return False


def _check_needed(
    found: Mapping[str, Binary],
    failed: Mapping[str, str],
    declined: str | None,
    environment: Mapping[str, str],
) -> None:
    """Raise StackError where a needed program is still missing, with every reason."""
    for program in (program for program in NEEDED if program not in found):
        least = ".".join(map(str, MINIMUM[program]))
        old = [f"{each.path} is {_shown(each)}" for each in installed(program, environment)]
        reasons = [*old, *filter(None, (failed.get(program), declined))]
        raise StackError(
            f"{program} >= {least} is needed ({'; '.join(reasons)}): put it on PATH, or name it in"
            f" {variable(program)} (Debian: apt install {' '.join(packages.DEBIAN.values())})"
        )


def _shown(binary: Binary) -> str:
    return ".".join(map(str, binary.version)) or "of an unknown version"
