"""The Python packages are installed while the programs are brought."""

import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import environment
from tools.stack import setup
from tools.stack.settings import Settings, StackError, load_settings


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    given = {"STACK_VAR": str(tmp_path / "var"), "MODEL_BUNDLE": "elsewhere"}
    return load_settings(given, tmp_path)


def _without_terminal(monkeypatch: pytest.MonkeyPatch, *, terminal: bool = False) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(isatty=lambda: terminal))


def test_both_run_at_the_same_time(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the other to have started."""
    _without_terminal(monkeypatch)
    both = threading.Barrier(2, timeout=10)
    monkeypatch.setattr(environment, "install", lambda *_: both.wait())

    with setup.preparing(settings):
        both.wait()


def test_a_terminal_is_asked_its_question_undisturbed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package manager's question comes first, then the packages."""
    _without_terminal(monkeypatch, terminal=True)
    order = []
    monkeypatch.setattr(environment, "install", lambda *_: order.append("packages"))

    with setup.preparing(settings):
        order.append("programs")

    assert order == ["programs", "packages"]


def test_a_failed_installation_is_reported(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reason is the error of `up`, although the programs were brought."""
    _without_terminal(monkeypatch)

    def fail(*_: str) -> None:
        raise environment.InstallError("no room")

    monkeypatch.setattr(environment, "install", fail)

    with pytest.raises(StackError, match="no room"), setup.preparing(settings):
        pass


def test_missing_programs_are_reported_before_failed_packages(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body's error is raised once the installation has ended."""
    _without_terminal(monkeypatch)
    installed = threading.Event()
    monkeypatch.setattr(environment, "install", lambda *_: installed.set())

    with pytest.raises(StackError, match="no Prometheus"), setup.preparing(settings):
        raise StackError("no Prometheus")
    assert installed.is_set()
