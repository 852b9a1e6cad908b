"""Programs that tests start, and that leave no process behind."""

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

# What a developer's shell may hold, and a test must not depend on.
_FOREIGN = ("MODEL_", "PROMETHEUS_", "LOCUST_", "FIDDLER_", "GF_", "GUNICORN_", "WEB_CONCURRENCY")


class Program:
    """A started program, leader of its own process group; both its outputs go to one file."""

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
                [str(word) for word in argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment(env or {}),
                start_new_session=True,
            )
        self.pid = self._process.pid

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text("utf-8", "replace")

    def until(self, check: Callable[[], T | None], what: str, timeout: float = 60.0) -> T:
        """Return the first truthy result of `check`; fail at once when the program has ended."""

        def check_running() -> T | None:
            if self._process.poll() is not None:
                pytest.fail(f"{self._name} ended before {what}:\n{self.output()}", pytrace=False)
            return check()

        return eventually(check_running, what, timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program itself."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 60.0) -> int:
        """Return its exit code once it and every process it started are gone."""
        try:
            code = self._process.wait(timeout)
            eventually(lambda: not self._group_lives(), f"no process of {self._name} remains")
        except (subprocess.TimeoutExpired, AssertionError):
            self.kill()
            pytest.fail(f"{self._name} left processes behind:\n{self.output()}", pytrace=False)
        return code

    def stop(self) -> int:
        """Ask it to end; return its exit code once nothing of it remains."""
        if self._process.poll() is None:
            self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End its whole group at once."""
        if self._group_lives():
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def _group_lives(self) -> bool:
        return _exists(lambda: os.killpg(self.pid, 0))


def alive(pid: int) -> bool:
    """Whether there is a process `pid`."""
    return _exists(lambda: os.kill(pid, 0))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without the settings of any service, and with `more`."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return own | dict(more)


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Stop `program` at the end of the block, and check that it stopped well where the test did."""
    try:
        yield program
    except BaseException:
        program.kill()
        raise
    program.stop()


def _exists(signal_it: Callable[[], None]) -> bool:
    try:
        signal_it()
    except ProcessLookupError:
        return False
    return True
