"""Making .venv and installing into it, with scripts in the place of Python and pip."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import environment
from tools.environment import DEVELOPMENT, GO_TASK, LOG, RUNTIME, InstallError

LOCK = "go-task-bin==1 \\\n    --hash=sha256:0a\nnumpy==2 \\\n    --hash=sha256:0b\n"
PIP = 'cat >"$0.stdin"; echo "$@" >>"$0.calls"'


class Checkout:
    """A checkout in which making .venv only writes a script as its Python."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.venv = root / ".venv"
        self.python = self.venv / "bin" / "python"
        self.said: list[str] = []
        self.script = PIP
        self.made = 0
        monkeypatch.setattr(environment, "ROOT", root)
        monkeypatch.setattr(environment, "VENV", self.venv)
        monkeypatch.setattr(environment, "_say", self.said.append)
        monkeypatch.setattr(environment, "_run", self._make)
        for lock in (RUNTIME, DEVELOPMENT, LOG):
            (root / lock).parent.mkdir(parents=True, exist_ok=True)
            (root / lock).write_text(LOCK)

    def _make(self, _: object) -> None:
        self.made += 1
        self.python.parent.mkdir()
        self.python.write_text(f"#!/bin/sh\n{self.script}\n")
        self.python.chmod(0o755)

    @property
    def calls(self) -> int:
        """How often pip was started."""
        file = Path(f"{self.python}.calls")
        return len(file.read_text().splitlines()) if file.exists() else 0


@pytest.fixture(name="checkout")
def _checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Checkout:
    return Checkout(tmp_path, monkeypatch)


def test_a_lock_is_installed_once(checkout: Checkout) -> None:
    """Until the lock changes."""
    environment.install(RUNTIME)
    environment.install(RUNTIME)
    assert (checkout.made, checkout.calls) == (1, 1)

    (environment.ROOT / RUNTIME).write_text(LOCK + "six==1\n")
    environment.install(RUNTIME)

    assert (checkout.made, checkout.calls) == (1, 2)
    assert not (checkout.venv / "incomplete").exists()


@pytest.mark.parametrize("included", [RUNTIME, LOG])
def test_the_development_lock_includes_the_others(checkout: Checkout, included: str) -> None:
    """Whoever runs the tests does not install twice."""
    environment.install(DEVELOPMENT)

    assert environment.installed(included)
    assert checkout.calls == 1


def test_go_task_alone_is_installed_by_its_entry_in_the_lock(checkout: Checkout) -> None:
    """`./task` alone needs nothing else, and pip checks its hash."""
    environment.install(GO_TASK)

    stdin = Path(f"{checkout.python}.stdin").read_text()
    assert stdin == "go-task-bin==1 \\\n    --hash=sha256:0a"
    assert "--require-hashes" in Path(f"{checkout.python}.calls").read_text()


def test_what_an_interrupt_left_is_removed_and_made_again(checkout: Checkout) -> None:
    """Whatever half-written files there are."""
    environment.install(RUNTIME)
    left = checkout.venv / "lib" / "half" / "written"
    left.mkdir(parents=True)
    (checkout.venv / "link").symlink_to("/nowhere")
    (checkout.venv / "incomplete").touch()

    environment.install(RUNTIME)

    assert checkout.made == 2
    assert not left.exists()
    assert environment.installed(RUNTIME)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupt_at_any_moment_marks_the_environment(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """The next run finds the mark, whether the interrupt came early or late."""

    def interrupted(*_: object) -> None:
        raise error

    monkeypatch.setattr(environment, "_pip", interrupted)

    with pytest.raises(error):
        environment.install(RUNTIME)

    assert (checkout.venv / "incomplete").exists()
    assert not environment.installed(RUNTIME)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("ERROR: hashes differ\nhint: none", "pip failed: ERROR: hashes differ"),
        (
            "Retrying: Failed to establish a new connection\nERROR: No matching distribution",
            "the package registry does not answer; a first start needs it",
        ),
        ("", "pip failed: it printed nothing"),
    ],
    ids=["an error", "no network", "silence"],
)
def test_a_failure_of_pip_is_one_line(checkout: Checkout, output: str, reason: str) -> None:
    """With pip's own reason, or that the network is missing."""
    checkout.script = f"cat >/dev/null; printf '{output}\\n'; exit 1"

    with pytest.raises(InstallError) as failed:
        environment.install(RUNTIME)

    assert str(failed.value).endswith(reason)
    assert (checkout.venv / "incomplete").exists()


def test_too_small_a_disk_is_noticed_before_anything_is_made(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what is needed and what is free."""
    monkeypatch.setattr(environment, "_NEEDED_MB", {GO_TASK: 10**9})

    with pytest.raises(
        InstallError, match=r"^\.venv needs 1000000000 MB more in .*, which has \d+"
    ):
        environment.install()

    assert not checkout.venv.exists()


def test_a_checkout_that_cannot_be_written_is_named(checkout: Checkout) -> None:
    """Such as one on a read-only file system."""
    checkout.venv.write_text("in the way")

    with pytest.raises(InstallError, match=r"\.venv cannot be written .* that you can write to$"):
        environment.install()


def test_a_long_step_reports_its_progress(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pip goes on only when a line of progress was printed, and then the next."""
    first, second = checkout.venv / "first", checkout.venv / "second"
    checkout.script = (
        "cat >/dev/null; echo Collecting numpy; until [ -e .venv/first ]; do :; done;"
        "echo Installing collected packages: numpy; until [ -e .venv/second ]; do :; done"
    )
    monkeypatch.chdir(environment.ROOT)
    monkeypatch.setattr(environment, "_PROGRESS_SECONDS", 0.1)
    monkeypatch.setattr(environment, "_say", _touching(checkout, first, second))

    environment.install(RUNTIME)

    assert "  downloading: 1 of 2 packages" in checkout.said
    assert "  installing: 0 of 2 packages" in checkout.said


def test_progress_counts_what_the_lock_names(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a marker that also has ==, and not what was there before, such as pip."""
    (environment.ROOT / RUNTIME).write_text(
        "zope.event==1 ; python_version == '3.11' \\\n    --hash=sha256:0a\nhttpx[http2]==2\n"
    )
    first = checkout.venv / "first"
    checkout.script = (
        "cat >/dev/null; echo Installing collected packages: httpx;"
        "until [ -e .venv/first ]; do :; done"
    )
    environment.install()
    packages = checkout.venv / "lib" / "python3.11" / "site-packages"
    for name in ("pip-1.dist-info", "zope_event-1.dist-info"):
        (packages / name).mkdir(parents=True)
    monkeypatch.chdir(environment.ROOT)
    monkeypatch.setattr(environment, "_PROGRESS_SECONDS", 0.1)
    monkeypatch.setattr(environment, "_say", _touching(checkout, first, first))

    environment.install(RUNTIME)

    assert f"installing {RUNTIME} into .venv: 2 packages" in checkout.said
    assert "  installing: 1 of 2 packages" in checkout.said


def _touching(checkout: Checkout, first: Path, second: Path) -> Callable[[str], None]:
    def say(line: str) -> None:
        checkout.said.append(line)
        if "downloading: 1" in line:
            first.touch()
        if line.startswith("  installing:"):
            second.touch()

    return say


def test_a_second_run_waits_for_the_first(
    checkout: Checkout, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two terminals in one checkout do not install at once."""
    first = os.open(environment.ROOT, os.O_RDONLY)
    fcntl.flock(first, fcntl.LOCK_EX)

    def say(line: str) -> None:
        checkout.said.append(line)
        if "waiting" in line:
            os.close(first)

    monkeypatch.setattr(environment, "_say", say)

    environment.install(RUNTIME)

    assert checkout.said[0] == "another ./task is changing .venv: waiting for it"
    assert environment.installed(RUNTIME)


def test_every_lock_that_is_installed_has_its_size() -> None:
    """Or nobody could say what is needed before starting."""
    locks = (RUNTIME, DEVELOPMENT, environment.PUBLISHER, environment.PARQUET, LOG)
    libraries = environment.LIBRARIES.values()

    assert {GO_TASK, *locks, *libraries} == {*environment._NEEDED_MB}  # noqa: SLF001 the table itself
