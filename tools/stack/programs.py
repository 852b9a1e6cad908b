"""Find the programs that do not come from PyPI, and install those the stack cannot do without."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tools.stack.settings import StackError

# Debian calls the Alertmanager prometheus-alertmanager.
_NAMES = {
    "prometheus": ("prometheus",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "grafana": ("grafana",),
}
_DEBIAN = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
_PLACES = "/usr/local/bin:/opt/homebrew/bin:/usr/sbin:/usr/share/grafana/bin"


def variable(program: str) -> str:
    """Return the environment variable that names another binary for a program."""
    return f"{program.upper()}_BINARY"


def find(program: str, environment: Mapping[str, str]) -> str | None:
    """Return the path of a program: the one its variable names, else one from PATH."""
    if given := environment.get(variable(program)):
        return shutil.which(given)
    path = os.pathsep.join(filter(None, (environment.get("PATH"), _PLACES)))
    return next(filter(None, (shutil.which(name, path=path) for name in _NAMES[program])), None)


def grafana_home(environment: Mapping[str, str]) -> str:
    """Return the directory of Grafana's own files, as its archive, brew or Debian lays them out."""
    binary = Path(find("grafana", environment) or "/usr/sbin/grafana").resolve()
    homes = (binary.parents[1], binary.parents[1] / "share" / "grafana")
    return str(next((home for home in homes if (home / "conf").is_dir()), homes[-1]))


def install(programs: Sequence[str], environment: Mapping[str, str]) -> None:
    """Install programs with apt or brew, or say in one line what to install by hand."""
    if shutil.which("apt-get") and (root := _as_root()) is not None:
        _apt(root, [_DEBIAN[program] for program in programs])
    elif shutil.which("brew"):
        _run(["brew", "install", *programs])
    missing = [program for program in programs if not find(program, environment)]
    if missing:
        raise StackError(
            f"{' and '.join(missing)} not found, and neither apt (as root or with sudo) nor brew"
            f" can install it here: install {' and '.join(missing)}"
            f" (Debian: apt install {' '.join(_DEBIAN[program] for program in missing)})"
        )


def _as_root() -> list[str] | None:
    """Return what to put before a command to run it as root; None when that takes a password."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and _succeeds(["sudo", "-n", "true"]):
        return ["sudo", "-n"]
    return None


def _apt(root: Sequence[str], packages: Sequence[str]) -> None:
    print(f"installing with apt: {' '.join(packages)}")
    get = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    wanted = [*get, "install", "--no-install-recommends", *packages]
    if not _succeeds(wanted):
        _run([*get, "update"])  # a fresh machine has no package lists yet
        _run(wanted)
    if Path("/run/systemd/system").is_dir():
        _disable(root, packages)


def _disable(root: Sequence[str], units: Iterable[str]) -> None:
    """Stop the system services that Debian starts at once: they hold the ports of the contract."""
    for unit in units:
        _run([*root, "systemctl", "disable", "--now", "--quiet", unit])
        print(f"stopped and disabled Debian's own {unit} service, which was just installed with it")


def _succeeds(command: Sequence[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["nothing"]
        raise StackError(f"`{' '.join(command)}` failed and said: {said[-1]}")
