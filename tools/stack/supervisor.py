"""Talk to the supervisord of one checkout over its Unix socket."""

import http.client
import os
import signal
import subprocess
import sys
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.stack.settings import StackError


@dataclass(frozen=True)
class Process:
    """One program, as supervisord reports it."""

    name: str
    state: str
    pid: int
    log: Path

    @property
    def up(self) -> bool:
        """Whether it runs, or is on its way."""
        return self.state in ("STARTING", "RUNNING")


class Supervisor:
    """The supervisord that listens on `path`, if one does."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def answers(self) -> bool:
        """Return whether a supervisord listens."""
        if not self._path.exists():
            return False
        try:
            self._call("getPID")
        except xmlrpc.client.Fault:  # it is shutting down
            return True
        except (OSError, http.client.HTTPException):
            return False
        return True

    def pid(self) -> int:
        """Return supervisord's own process id."""
        return int(self._call("getPID"))

    def launch(self, configuration: Path, environment: Mapping[str, str]) -> None:
        """Start a supervisord that outlives this process and its terminal."""
        started = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", "supervisor.supervisord", "-c", configuration],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,  # of its own log; native/supervisord.conf says it for the rest
        )
        if started.returncode:
            raise StackError(f"supervisord did not start: {_complaint(started.stderr)}")

    def processes(self) -> dict[str, Process]:
        """Return every program by name."""
        return {
            info["name"]: Process(
                info["name"], info["statename"], info["pid"], Path(info["stdout_logfile"])
            )
            for info in self._call("getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Start a program without waiting for it."""
        try:
            self._call("startProcess", name, False)  # noqa: FBT003
        except xmlrpc.client.Fault as fault:
            raise StackError(f"{name} cannot be started: {fault.faultString}") from fault

    def stop(self, name: str) -> None:
        """Stop a program and wait for its end."""
        self._call("stopProcess", name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a program."""
        self._call("signalProcess", name, number.name)

    def shutdown(self) -> None:
        """Stop every program, then supervisord itself; returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: object) -> Any:  # noqa: ANN401
        # Not at the top: `status` must work before requirements.txt is installed.
        from supervisor.xmlrpc import SupervisorTransport  # noqa: PLC0415

        transport = SupervisorTransport(serverurl=f"unix://{self._path}")
        with xmlrpc.client.ServerProxy("http://supervisor", transport=transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)


def started_by(mark: str) -> list[int]:
    """Return the live processes whose environment at their start held the line `mark`.

    Empty where there is no /proc (macOS): what a killed supervisord leaves there is not found.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if os.fsencode(mark) in environment.split(b"\0"):
            found.append(int(entry.name))
    return found


def _complaint(text: str) -> str:
    """Return the line of supervisord's output that names the error."""
    lines = text.replace("Available names:", "\n").splitlines()
    return next((line for line in lines if line.startswith("Error")), "it printed nothing").strip()
