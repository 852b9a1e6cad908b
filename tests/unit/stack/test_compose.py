"""What `docker compose` prints, read."""

import json
from pathlib import Path

import pytest

from tools.stack import compose
from tools.stack.settings import load_settings

HEALTHY = {"Service": "model", "State": "running", "Health": "healthy", "ExitCode": 0}
PLAIN = {"Service": "prometheus", "State": "running", "Health": "", "ExitCode": 0}
DONE = {"Service": "setup", "State": "exited", "Health": "", "ExitCode": 0}
DEAD = {"Service": "locust", "State": "exited", "Health": "", "ExitCode": 1}


def _says(monkeypatch: pytest.MonkeyPatch, ps: str) -> None:
    answers = {"ps": ps, "exec": "secret"}
    monkeypatch.setattr(compose, "_output", lambda _, word, *__: answers[word])


@pytest.mark.parametrize("as_list", [True, False])
def test_both_formats_of_ps_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    as_list: bool,
) -> None:
    """Compose 2.21 changed one list to one object a line; status reads both."""
    containers = [HEALTHY, PLAIN, DONE]
    lines = "\n".join(map(json.dumps, containers))
    _says(monkeypatch, json.dumps(containers) if as_list else lines)

    assert compose.status(load_settings({}, tmp_path))

    said = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model", "healthy", "http://127.0.0.1:8000"] in said
    assert ["prometheus", "running", "http://127.0.0.1:9090"] in said
    assert ["setup", "done"] in said
    assert ["Grafana:", "user", "admin,", "password", "secret"] in said


def test_a_dead_container_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status tells by its exit code that something is wrong."""
    _says(monkeypatch, "\n".join(map(json.dumps, [HEALTHY, DEAD])))

    assert not compose.status(load_settings({}, tmp_path))


def test_no_container_is_not_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that does not run is not a healthy one."""
    _says(monkeypatch, "")

    assert not compose.status(load_settings({}, tmp_path))


def test_a_service_no_longer_wanted_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher, once FIDDLER_URL is gone, before the others are brought up."""
    publisher = {**HEALTHY, "Service": "publisher"}
    answers = {"ps": "\n".join(map(json.dumps, [HEALTHY, publisher])), "config": "model\nlocust"}
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(compose, "_output", lambda _, word, *__: answers[word])
    monkeypatch.setattr(compose, "_compose", lambda _, *words: asked.append(words))

    compose.up(load_settings({}, tmp_path))

    removed, started = asked
    assert removed == ("--profile", "*", "rm", "--stop", "--force", "publisher")
    assert started[0] == "up"
