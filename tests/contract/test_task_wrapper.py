"""./task on machines of every kind: old Python, no Python, another program called task."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tools import ROOT

PYTHONS = ("python3", "python3.14", "python3.13", "python3.12", "python3.11")
TOOLS = ("dirname", "sh", "grep", "cat", "mktemp", "rm")


class Machine:
    """A checkout with nothing but the wrapper, on a machine with nothing but a shell."""

    def __init__(self, directory: Path) -> None:
        self.checkout = directory / "a check out"
        self.checkout.mkdir()
        self.bin = directory / "bin"
        self.bin.mkdir()
        shutil.copy(ROOT / "task", self.checkout)
        for name in TOOLS:
            (self.bin / name).symlink_to(str(shutil.which(name)))

    def install(self, name: str, script: str) -> None:
        """Put a program on PATH."""
        _write(self.bin / name, script)

    def task(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Call the wrapper from another directory."""
        return subprocess.run(
            [self.checkout / "task", *words],
            cwd=self.bin,
            env={"PATH": str(self.bin)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(name="machine")
def _machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def _write(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_a_machine_without_python_gets_one_line(machine: Machine) -> None:
    """Nothing is made, and the one line names what is needed."""
    done = machine.task("up")

    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "task: python3 >= 3.11 with venv is needed (Debian: apt install python3-venv)"
    ]
    assert not (machine.checkout / ".venv").exists()


def test_an_old_python_is_rejected(machine: Machine) -> None:
    """Neither an old Python nor one without venv is used."""
    for name in PYTHONS:
        machine.install(name, "exit 1")

    assert "python3 >= 3.11 with venv is needed" in machine.task("up").stderr


def test_a_newer_python_of_another_name_is_used(machine: Machine) -> None:
    """The python3 of macOS is old; the one from brew has a name of its own."""
    machine.install("python3", "exit 1")
    machine.install("python3.12", 'echo "$@" >>"$0.called"')
    machine.install("task", "echo --taskfile")

    machine.task("up")

    assert (machine.bin / "python3.12.called").read_text().splitlines()[-1] == (
        f"{machine.checkout}/tools/environment.py"
    )


def test_an_installed_task_is_executed_at_once(machine: Machine) -> None:
    """The second call starts the task in .venv, in the checkout, with its words as they are."""
    venv = machine.checkout / ".venv" / "bin"
    _write(venv / "python", "exit 1")
    _write(venv / "task", 'for word; do echo "$word"; done')

    done = machine.task("scenario", "--", "two words")

    assert done.stdout.splitlines()[-5:] == [
        "--dir",
        str(machine.checkout),
        "scenario",
        "--",
        "two words",
    ]


def test_go_task_on_path_spares_the_download(machine: Machine) -> None:
    """A `task` that knows Taskfiles is as good as the one from the lock."""
    _write(machine.checkout / ".venv" / "bin" / "python", 'echo "$@" >&2; exit 1')
    machine.install("task", 'echo "--taskfile"; echo "$@"')

    done = machine.task("status")

    assert done.returncode == 0
    assert done.stdout.split()[-1] == "status"
    assert "environment.py" not in done.stderr


def test_taskwarrior_is_not_taken_for_go_task(machine: Machine) -> None:
    """Another program called task is left alone, and go-task is installed into .venv."""
    _write(machine.checkout / ".venv" / "bin" / "python", 'echo "$@" >&2; exit 7')
    machine.install("task", 'echo "Taskwarrior: $*"')

    done = machine.task("status")

    assert done.returncode == 7
    assert "Taskwarrior" not in done.stdout
    assert done.stderr.strip() == f"{machine.checkout}/tools/environment.py go-task"


def test_an_interrupted_run_is_made_good(machine: Machine) -> None:
    """Where .venv is marked as incomplete, it is made again with the machine's Python."""
    venv = machine.checkout / ".venv"
    _write(venv / "bin" / "python", "exit 1")
    _write(venv / "bin" / "task", "exit 0")
    (venv / "incomplete").touch()
    machine.install("python3", 'echo "$@" >>"$0.called"')

    machine.task("up")

    assert (machine.bin / "python3.called").read_text().splitlines()[-1] == (
        f"{machine.checkout}/tools/environment.py"
    )


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 3", 3), ('echo 4 >"$TASK_STATUS"', 4), ("exit 0", 0)],
    ids=["go-task failed", "a command reported its error", "success"],
)
def test_the_exit_status_is_the_commands(machine: Machine, script: str, status: int) -> None:
    """A command that has printed what is wrong exits with 0 to keep go-task from adding a line."""
    venv = machine.checkout / ".venv" / "bin"
    _write(venv / "python", "exit 1")
    _write(venv / "task", script)

    assert machine.task("up").returncode == status
