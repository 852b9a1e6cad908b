"""grafana/entrypoint.sh, run with a command that prints what Grafana would see."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from tests.support.grafana import GRAFANA

ENTRYPOINT = GRAFANA / "entrypoint.sh"
PASSWORD = "GF_SECURITY_ADMIN_PASSWORD"  # noqa: S105 (a variable's name)


@pytest.fixture(name="data")
def _data(tmp_path: Path) -> Path:
    return tmp_path / "grafana"


def start(data: Path | None, *command: str, **given: str) -> tuple[int, dict[str, str], str]:
    """Run the entrypoint; return its exit code, the command's environment, and stderr."""
    environment = {"PATH": os.environ["PATH"], **given}
    if data:
        environment["GF_PATHS_DATA"] = str(data)
    done = subprocess.run(
        ["sh", ENTRYPOINT, *(command or ("env",))],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    seen = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return done.returncode, seen, done.stderr


def test_first_start_makes_a_long_password_only_its_owner_can_read(data: Path) -> None:
    """The file holds at least 24 characters, mode 600, and Grafana reads it."""
    code, seen, _ = start(data)

    file = data / "admin-password"
    assert code == 0
    assert len(file.read_text().strip()) >= 24
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert seen[PASSWORD] == f"$__file{{{file}}}"
    assert [each.name for each in data.iterdir()] == ["admin-password"]


def test_second_start_keeps_the_password(data: Path) -> None:
    """The file of the first start is used again, unchanged."""
    start(data)
    first = (data / "admin-password").read_text()

    _, seen, _ = start(data)

    assert (data / "admin-password").read_text() == first
    assert seen[PASSWORD] == f"$__file{{{data / 'admin-password'}}}"


def test_two_stacks_get_two_passwords(tmp_path: Path) -> None:
    """Nothing about the password is fixed."""
    for name in ("one", "two"):
        start(tmp_path / name)

    one, two = ((tmp_path / name / "admin-password").read_text() for name in ("one", "two"))
    assert one != two


def test_given_password_wins(data: Path) -> None:
    """A password in the environment goes through, and nothing is generated."""
    _, seen, _ = start(data, **{PASSWORD: "chosen", f"{PASSWORD}__FILE": "/nowhere"})

    assert seen[PASSWORD] == "chosen"
    assert f"{PASSWORD}__FILE" not in seen
    assert not data.exists()


def test_given_file_wins(data: Path, tmp_path: Path) -> None:
    """A password file goes through in the form that Grafana reads without its image's script."""
    secret = tmp_path / "secret file"
    secret.write_text("chosen\n")

    _, seen, _ = start(data, **{f"{PASSWORD}__FILE": str(secret)})

    assert seen[PASSWORD] == f"$__file{{{secret}}}"
    assert f"{PASSWORD}__FILE" not in seen
    assert not data.exists()


def test_empty_settings_count_as_not_given(data: Path) -> None:
    """Compose passes unset variables as empty ones."""
    start(data, **{PASSWORD: "", f"{PASSWORD}__FILE": ""})

    assert (data / "admin-password").exists()


def test_unreadable_given_file_is_one_line(data: Path) -> None:
    """A wrong path is named, and Grafana does not start."""
    code, seen, errors = start(data, **{f"{PASSWORD}__FILE": "/nowhere"})

    assert (code, seen) == (1, {})
    assert errors.splitlines() == [f"grafana: cannot read {PASSWORD}__FILE=/nowhere"]


def test_missing_data_directory_setting_is_one_line() -> None:
    """Without GF_PATHS_DATA there is no place for a password."""
    code, _, errors = start(None)

    assert code != 0
    assert "GF_PATHS_DATA" in errors
    assert len(errors.splitlines()) == 1


def test_command_replaces_the_shell(data: Path) -> None:
    """Signals reach Grafana: the command runs in the entrypoint's own process, arguments kept."""
    code, seen, _ = start(data, "sh", "-c", 'echo "argument=$1"; exit 7', "sh", "a b")

    assert (code, seen) == (7, {"argument": "a b"})
