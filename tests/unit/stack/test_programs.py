"""Finding what does not come from PyPI."""

from pathlib import Path

import pytest

from tools.stack import packages, programs, releases
from tools.stack.settings import StackError

DEBIAN = "echo 'prometheus, version 2.42.0+ds (branch: debian/sid)'"
OFFICIAL = "echo 'prometheus, version 3.13.2 (branch: HEAD)'"
NOWHERE = dict.fromkeys(releases.SITES, "http://127.0.0.1:9")


def _program(path: Path, script: str = "echo version 99.0") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture(name="environment")
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return settings of a machine without programs, network and package manager."""
    monkeypatch.setattr(programs, "_PLACES", "")
    monkeypatch.setenv("PATH", "/bin")
    monkeypatch.setattr(packages, "install", lambda _: "no package manager")
    return {**NOWHERE, "PATH": str(tmp_path / "bin"), "XDG_CACHE_HOME": str(tmp_path / "cache")}


def _path(binary: programs.Binary | None) -> str | None:
    return binary.path if binary else None


def _cached(program: str, environment: dict[str, str]) -> str:
    cache = releases.cache(environment)
    return _program(releases.release(program, environment).binary(cache))


def test_debians_name_of_the_alertmanager_is_known(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The Alertmanager is found under both names, its own first."""
    debian = _program(tmp_path / "bin" / "prometheus-alertmanager")
    assert _path(programs.find("alertmanager", environment)) == debian

    own = _program(tmp_path / "bin" / "alertmanager")

    assert _path(programs.find("alertmanager", environment)) == own


def test_a_named_binary_wins(tmp_path: Path, environment: dict[str, str]) -> None:
    """<PROGRAM>_BINARY is taken as it is: a wrong one finds nothing."""
    _program(tmp_path / "bin" / "prometheus")
    named = {**environment, "PROMETHEUS_BINARY": str(tmp_path / "nowhere")}

    assert programs.find("prometheus", named) is None
    with pytest.raises(StackError, match=r"^PROMETHEUS_BINARY=.*nowhere: there is no such program"):
        programs.bring(named)


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (OFFICIAL, True),
        (DEBIAN, True),
        ("echo prometheus, version 2.41.0", False),
        ("exit 1", False),
    ],
    ids=["official", "debian", "too old", "silent"],
)
def test_only_a_recent_program_on_path_is_used(
    tmp_path: Path, environment: dict[str, str], script: str, *, found: bool
) -> None:
    """The rules use keep_firing_for, which Prometheus has since 2.42."""
    _program(tmp_path / "bin" / "prometheus", script)

    assert (programs.find("prometheus", environment) is not None) is found


def test_the_official_build_is_preferred_to_debians(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Debian's lacks web pages, so a downloaded one comes first; an official one on PATH wins."""
    on_path = _program(tmp_path / "bin" / "prometheus", DEBIAN)
    assert programs.find("prometheus", environment) == programs.Binary(
        on_path, (2, 42), debian=True
    )

    cached = _cached("prometheus", environment)
    assert _path(programs.find("prometheus", environment)) == cached

    _program(tmp_path / "bin" / "prometheus", OFFICIAL)
    assert _path(programs.find("prometheus", environment)) == on_path


@pytest.mark.parametrize("home", ["grafana", "grafana/share/grafana"])
def test_grafanas_home_is_found(tmp_path: Path, home: str) -> None:
    """Its own files lie around the binary, in its archive as with brew."""
    binary = _program(tmp_path / "grafana" / "bin" / "grafana")
    (tmp_path / home / "conf").mkdir(parents=True)

    assert programs.grafana_home(binary) == str(tmp_path / home)


def test_a_missing_program_is_named_with_every_reason(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """One line: what is needed, what was found, why nothing could be brought, and what helps."""
    old = _program(tmp_path / "bin" / "prometheus", "echo prometheus, version 2.24.1")

    with pytest.raises(StackError) as rejected:
        programs.bring(environment)

    text = str(rejected.value)
    assert text.count("\n") == 0
    assert text.startswith(f"prometheus >= 2.42 is needed ({old} is 2.24; 127.0.0.1:9: ")
    assert text.endswith(
        "no package manager): put it on PATH, or name it in PROMETHEUS_BINARY"
        " (Debian: apt install prometheus prometheus-alertmanager)"
    )


def test_the_stack_starts_without_grafana_and_tries_again_a_day_later(
    tmp_path: Path, environment: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """A failed download of what is not needed does not delay each start."""
    for name in programs.NEEDED:
        _program(tmp_path / "bin" / name)
    releases.cache(environment).mkdir(parents=True)

    assert set(programs.bring(environment)) == set(programs.NEEDED)
    assert "could not download grafana: 127.0.0.1:9: " in capsys.readouterr().out

    programs.bring(environment)
    assert capsys.readouterr().out == ""
