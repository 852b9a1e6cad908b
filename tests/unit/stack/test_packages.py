"""Installing with the machine's package manager, played by scripts."""

import os
from pathlib import Path

import pytest

from tools.stack import packages


class Machine:
    """A PATH with nothing but the given scripts, each of which notes how it was called."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._directory = directory
        self._calls = directory / "calls"
        self._calls.touch()
        monkeypatch.setenv("PATH", str(directory))
        (directory / "env").symlink_to("/usr/bin/env")

    def add(self, name: str, script: str = "exit 0") -> None:
        """Put a script on PATH."""
        path = self._directory / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self._calls}"\n{script}\n')
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """Every call so far."""
        return self._calls.read_text().splitlines()


@pytest.fixture(name="machine")
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def _answer(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[str]:
    """Play a terminal; return the questions it is asked."""
    asked: list[str] = []

    def ask(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr(packages, "_has_terminal", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    return asked


INSTALL = "apt-get -qq install --no-install-recommends prometheus"


def test_apt_gets_its_lists_where_there_are_none(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh machine has none: the first attempt fails, and the second follows an update."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.add("dpkg", "exit 1")
    lists = Path(os.environ["PATH"]) / "lists"
    machine.add("apt-get", f'case "$*" in *update) : >"{lists}" ;; *) [ -e "{lists}" ] ;; esac')
    machine.add("systemctl")

    assert packages.install(["prometheus"]) is None

    apt = [call for call in machine.calls if call.startswith("apt-get")]
    assert apt == [INSTALL, "apt-get -qq update", INSTALL]


def test_without_a_terminal_one_line_says_what_is_installed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A script or CI is not asked."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    machine.add("dpkg")
    machine.add("apt-get")

    packages.install(["prometheus", "alertmanager"])

    assert capsys.readouterr().out.splitlines() == [
        "no terminal to ask: going ahead to install prometheus and prometheus-alertmanager with apt"
    ]


@pytest.mark.parametrize(("answer", "installed"), [("", True), ("Y", True), ("n", False)])
def test_a_person_is_asked_and_yes_is_the_default(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, answer: str, *, installed: bool
) -> None:
    """A no installs nothing, and is the reason that is returned."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    asked = _answer(monkeypatch, answer)
    machine.add("dpkg")
    machine.add("apt-get")

    declined = packages.install(["prometheus"])

    assert asked == ["install prometheus with apt? [Y/n] "]
    assert (INSTALL in machine.calls) is installed
    assert declined == (None if installed else "apt was declined")


def test_sudo_that_needs_a_password_is_used_only_at_a_terminal(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could type the password elsewhere."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    machine.add("dpkg")
    machine.add("apt-get")
    machine.add("sudo", '[ "$1" != -n ] && exec "$@"')

    assert packages.install(["prometheus"]) == "apt needs root, and sudo is not to be had"
    assert INSTALL not in machine.calls

    _answer(monkeypatch, "y")
    assert packages.install(["prometheus"]) is None
    assert INSTALL in machine.calls


def test_only_services_that_were_just_installed_are_stopped(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older package of the user's, which apt upgrades, keeps its service."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "is_dir", lambda _: True)
    machine.add("dpkg", '[ "$2" = prometheus ]')
    machine.add("apt-get")
    machine.add("systemctl")

    packages.install(["prometheus", "alertmanager"])

    assert [call for call in machine.calls if call.startswith("systemctl")] == [
        "systemctl disable --now --quiet prometheus-alertmanager"
    ]


def test_a_long_installation_reports_that_it_goes_on(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The script ends only when the line was printed."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "_PROGRESS_SECONDS", 0.1)
    seen = tmp_path / "seen"
    machine.add("dpkg")
    machine.add("apt-get", f'until [ -e "{seen}" ]; do :; done')
    lines: list[str] = []

    def show(line: str, **_: object) -> None:
        lines.append(line)
        if line.endswith(" s"):
            seen.touch()

    monkeypatch.setattr("builtins.print", show)

    packages.install(["prometheus"])

    assert lines[-1].startswith("  env DEBIAN_FRONTEND=noninteractive apt-get install prometheus: ")


def test_a_machine_without_package_manager_is_named(machine: Machine) -> None:
    """The reason becomes part of the error."""
    assert packages.install(["prometheus"]) == "this machine has neither apt nor brew"
    assert machine.calls == []
