"""Install programs with the machine's package manager: apt, or brew."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tools.stack.settings import StackError

_PROGRESS_SECONDS = 4.0
DEBIAN = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}


def install(programs: Sequence[str]) -> str | None:
    """Install programs; return why that is not possible here, None where it was done.

    Asks first where there is a terminal. Raises StackError where the package manager fails.
    """
    if shutil.which("apt-get"):
        packages = [DEBIAN[program] for program in programs]
        root = _as_root()
        if root is None:
            return "apt needs root, and sudo is not to be had"
        return None if _agreed("apt", packages) and _apt(root, packages) else "apt was declined"
    if shutil.which("brew"):
        if not _agreed("brew", programs):
            return "brew was declined"
        _run(["brew", "install", *programs])
        return None
    return "this machine has neither apt nor brew"


def _as_root() -> list[str] | None:
    """Return what to put before a command to run it as root; None where that is not possible."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    if _succeeds(["sudo", "-n", "true"]):
        return ["sudo", "-n"]
    return ["sudo"] if _has_terminal() else None  # it asks for the password


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _agreed(manager: str, packages: Sequence[str]) -> bool:
    """Ask whether to install; without a terminal, print what is done and go ahead."""
    line = f"install {' and '.join(packages)} with {manager}"
    if not _has_terminal():
        print(f"no terminal to ask: going ahead to {line}", flush=True)
        return True
    return input(f"{line}? [Y/n] ").strip().lower() in ("", "y", "yes")


def _apt(root: Sequence[str], packages: Sequence[str]) -> bool:
    """Install packages, and stop the system services that came with them, and only those."""
    new = [package for package in packages if not _succeeds(["dpkg", "-s", package])]
    get = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    wanted = [*get, "install", "--no-install-recommends", *packages]
    if not _succeeds(wanted):
        print("getting apt's package lists", flush=True)
        _run([*get, "update"])  # a fresh machine has none yet
        _run(wanted)
    if Path("/run/systemd/system").is_dir():
        _disable(root, new)
    return True


def _disable(root: Sequence[str], units: Iterable[str]) -> None:
    """Stop the services that Debian starts at once: they hold the ports of the stack."""
    for unit in units:
        _run([*root, "systemctl", "disable", "--now", "--quiet", unit])
        print(f"stopped and disabled Debian's own {unit} service, which was just installed with it")


def _succeeds(command: Sequence[str]) -> bool:
    return _carry_out(command)[0] == 0


def _run(command: Sequence[str]) -> None:
    status, error = _carry_out(command)
    if status:
        lines = error.strip().splitlines() or ["it printed nothing"]
        raise StackError(f"`{' '.join(command)}` failed: {lines[-1]}")


def _carry_out(command: Sequence[str]) -> tuple[int, str]:
    """Return a command's exit status and what it wrote to stderr; print that it goes on."""
    start = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while True:
            try:
                error = process.communicate(timeout=_PROGRESS_SECONDS)[1]
            except subprocess.TimeoutExpired:
                words = " ".join(word for word in command if not word.startswith("-"))
                print(f"  {words}: {time.monotonic() - start:.0f} s", flush=True)
            else:
                return process.returncode, error
