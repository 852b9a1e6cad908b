"""Starts programs for tests and ensures that no process of them remains."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.wait import eventually

T = TypeVar("T")

# Prefixes of variables that a developer's shell may set and that tests must not depend on.
_FOREIGN = (
    *("AWS_", "FIDDLER_", "GF_", "GUNICORN_", "LOCUST_", "MODEL_", "PREDICTION_", "PROMETHEUS_"),
    *("PUBLISHER_", "WEB_CONCURRENCY"),
)


class Program:
    """A program in its own process group, whose stdout and stderr go to one file."""

    def __init__(
        self,
        argv: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.log = log
        self._name = Path(argv[0]).name
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment(env or {}),
                start_new_session=True,
            )
        self.pid = self._process.pid

    def output(self) -> str:
        """Return the output so far."""
        return self.log.read_text("utf-8", "replace")

    def until(self, check: Callable[[], T | None], what: str, timeout: float = 60.0) -> T:
        """Return the first truthy result of `check`; fail at once if the program ends."""

        def check_running() -> T | None:
            if self._process.poll() is not None:
                pytest.fail(f"{self._name} ended before {what}:\n{self.output()}", pytrace=False)
            return check()

        return eventually(check_running, what, timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program, not to its process group."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Return the exit code once the whole process group has ended."""
        try:
            code = self._process.wait(timeout)
            eventually(lambda: not self._group_lives(), f"no process of {self._name} remains")
        except (subprocess.TimeoutExpired, AssertionError):
            self.kill()
            pytest.fail(f"{self._name} left processes behind:\n{self.output()}", pytrace=False)
        return code

    def stop(self) -> int:
        """Send SIGTERM; return the exit code once the whole process group has ended."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """Kill the whole process group."""
        if self._group_lives():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _group_lives(self) -> bool:
        return _exists(lambda: os.killpg(self.pid, 0))


def alive(pid: int) -> bool:
    """Return whether a process exists."""
    return _exists(lambda: os.kill(pid, 0))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the settings of any service, plus `more`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return own | dict(more)


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stop a program at the end of the block; if the block succeeded, check that it stops."""
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    program.stop()


def _exists(send_signal: Callable[[], None]) -> bool:
    try:
        send_signal()
    except ProcessLookupError:
        return False
    return True
