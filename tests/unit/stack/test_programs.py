"""Finding what does not come from PyPI."""

import os
from pathlib import Path

import pytest

from tools.stack import programs
from tools.stack.settings import StackError


def _program(path: Path, script: str = "") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_debian_s_name_of_the_alertmanager_is_known(tmp_path: Path) -> None:
    """The Alertmanager is found under both names, its own first."""
    environment = {"PATH": str(tmp_path)}
    debian = _program(tmp_path / "prometheus-alertmanager")
    assert programs.find("alertmanager", environment) == debian

    own = _program(tmp_path / "alertmanager")

    assert programs.find("alertmanager", environment) == own


def test_a_named_binary_wins(tmp_path: Path) -> None:
    """<PROGRAM>_BINARY is taken as it is: a wrong one finds nothing."""
    environment = {"PATH": str(tmp_path), "PROMETHEUS_BINARY": str(tmp_path / "nowhere")}
    _program(tmp_path / "prometheus")

    assert programs.find("prometheus", environment) is None


@pytest.mark.parametrize("home", ["grafana", "grafana/share/grafana"])
def test_grafana_s_home_is_found(tmp_path: Path, home: str) -> None:
    """Its own files lie around the binary, in its archive as with brew."""
    binary = _program(tmp_path / "grafana" / "bin" / "grafana")
    (tmp_path / home / "conf").mkdir(parents=True)

    assert programs.grafana_home({"GRAFANA_BINARY": binary}) == str(tmp_path / home)


def test_a_machine_without_installer_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line, with the names of the packages."""
    monkeypatch.setenv("PATH", str(tmp_path))
    environment = {"ALERTMANAGER_BINARY": "/nowhere"}

    with pytest.raises(StackError) as refused:
        programs.install(["alertmanager"], environment)

    assert str(refused.value).count("\n") == 0
    assert "apt install prometheus-alertmanager" in str(refused.value)


def test_apt_installs_with_sudo_and_gets_lists_where_there_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's packages are installed without recommendations, after an update if need be."""
    told = tmp_path / "told"
    _program(tmp_path / "sudo", 'shift; exec "$@"')
    _program(tmp_path / "systemctl", "exit 0")
    _program(
        tmp_path / "apt-get",
        f'echo "$*" >>"{told}"\n'
        f'case "$*" in *update) : >"{tmp_path}/lists" ;;\n'
        f'*) [ -e "{tmp_path}/lists" ] || exit 100\n'
        f'printf "#!/bin/sh" >"{tmp_path}/apt-s-own"; /bin/chmod +x "{tmp_path}/apt-s-own" ;; esac',
    )
    for name in ("env", "true"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    programs.install(["prometheus"], {"PROMETHEUS_BINARY": str(tmp_path / "apt-s-own")})

    install = "-qq install --no-install-recommends prometheus"
    assert told.read_text().splitlines() == [install, "-qq update", install]
