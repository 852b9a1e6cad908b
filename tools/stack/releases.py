"""The official releases of what does not come from PyPI, and the user's cache of them."""

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.stack.settings import StackError

# The versions of compose.yaml's images; <PROGRAM>_RELEASE in .env names others.
VERSIONS = {"prometheus": "3.13.2", "alertmanager": "0.34.0", "grafana": "13.2.0"}
# Where they come from; a mirror has the same paths.
SITES = {"GITHUB_URL": "https://github.com", "GRAFANA_DOWNLOAD_URL": "https://dl.grafana.com"}

# SHA-256 of archives, each found equal in two places or more. An archive that is not listed must
# have the checksum that its release publishes beside it.
PINS = {
    "prometheus-3.13.2.linux-amd64.tar.gz": (
        "0e8c4d46101bd025ea8265e377d2caabc57f488fc1be1c367f37db69ea41be6f"
    ),
    "prometheus-3.13.2.linux-arm64.tar.gz": (
        "7cecb17a6f41d59814e1a0581a1f81f79051ad5973d1ecf39e23a9f747d6572a"
    ),
    "prometheus-3.13.2.darwin-amd64.tar.gz": (
        "e57095aed0b69e10edaee28b92718d4a65f46d466bf93aeda54075e901d15c2a"
    ),
    "prometheus-3.13.2.darwin-arm64.tar.gz": (
        "f68ca4f1dbedd6366bbfdd8ac5d2c0b7ba1f273474acc8d38eb33202fbeec7a4"
    ),
    "alertmanager-0.34.0.linux-amd64.tar.gz": (
        "19c75a11d8c03dc4ade7abdbddfb3a8f28c9e7b000d0849cda0cd71dffd74a03"
    ),
    "grafana-13.2.0.linux-amd64.tar.gz": (
        "4669384cdb0bb5b4a3f804927e57490d17f4cc47258cd1698fc124e99ee58265"
    ),
}
_MACHINES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
# What is unpacked, below the archive's one directory; None is everything.
_MEMBERS = {"prometheus": "prometheus", "alertmanager": "alertmanager", "grafana": None}
_BINARIES = {"prometheus": "prometheus", "alertmanager": "alertmanager", "grafana": "bin/grafana"}


@dataclass(frozen=True)
class Release:
    """One archive: where it is, and where its checksum is."""

    program: str
    name: str
    """Without .tar.gz; also the name of its directory in the cache."""
    site: str
    """The address of the directory that holds the archive."""
    checksums: str
    """The name of the file beside the archive that holds its checksum."""

    @property
    def archive(self) -> str:
        """The archive's file name."""
        return f"{self.name}.tar.gz"

    @property
    def member(self) -> str | None:
        """The one file to unpack; None for all."""
        return _MEMBERS[self.program]

    def binary(self, cache: Path) -> Path:
        """Return where the program is once it is unpacked in a cache."""
        return cache / self.name / _BINARIES[self.program]


def release(program: str, environment: Mapping[str, str]) -> Release:
    """Return the release of a program for this machine. Raises StackError where there is none."""
    version = environment.get(f"{program.upper()}_RELEASE", VERSIONS[program])
    name = f"{program}-{version}.{_platform()}"
    if program == "grafana":
        site = f"{_site('GRAFANA_DOWNLOAD_URL', environment)}/oss/release"
        return Release(program, name, site, f"{name}.tar.gz.sha256")
    site = f"{_site('GITHUB_URL', environment)}/prometheus/{program}/releases/download/v{version}"
    return Release(program, name, site, "sha256sums.txt")


def cache(environment: Mapping[str, str]) -> Path:
    """Return the directory of this user's downloads, which all clones share."""
    given = environment.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "ml-monitoring"


def cached(program: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of a program that was downloaded before."""
    try:
        binary = release(program, environment).binary(cache(environment))
    except StackError:
        return None
    return str(binary) if os.access(binary, os.X_OK) else None


def _site(variable: str, environment: Mapping[str, str]) -> str:
    url = environment.get(variable, SITES[variable]).rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise StackError(f"{variable}={url} is not an address: it must start with https://")
    return url


def _platform() -> str:
    """Return this machine as release archives name it, such as linux-amd64."""
    system, machine = platform.system().lower(), platform.machine().lower()
    if system not in ("linux", "darwin") or machine not in _MACHINES:
        raise StackError(f"there are no releases for {system} on {machine}")
    return f"{system}-{_MACHINES[machine]}"
