"""What `status` and `train` print of the traffic and of the version."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools.stack import probe, traffic
from tools.stack.settings import Settings, load_settings


@pytest.fixture(name="settings")
def _settings(tmp_path: Path) -> Settings:
    return load_settings({"STACK_VAR": str(tmp_path / "var")}, tmp_path)


def _build(settings: Settings, version: str) -> None:
    bundle = settings.var / "bundle"
    bundle.mkdir(parents=True)
    (bundle / "bundle.json").write_text(json.dumps({"version": version}))


def _runs(monkeypatch: pytest.MonkeyPatch, version: str | None, *values: str) -> None:
    samples: list[dict[str, Any]] = [{"value": [0, value]} for value in values]
    monkeypatch.setattr(probe, "running_version", lambda _: version)
    monkeypatch.setattr(probe, "query", lambda *_: samples)


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        (["0.25"], ["25.0% of the rows of the last 5 minutes were rejected"]),
        (["NaN"], []),
        ([], []),
    ],
    ids=["some", "no rows", "no Prometheus"],
)
def test_status_shows_the_share_of_rejected_rows(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, values: list[str], lines: list[str]
) -> None:
    """Without rows there is no share."""
    _runs(monkeypatch, "a1", *values)

    assert list(traffic.lines(settings)) == lines


def test_status_shows_that_another_version_was_built(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line ends with the command that switches."""
    _build(settings, "b2")
    _runs(monkeypatch, "a1")

    (line,) = traffic.lines(settings)

    assert line == "version a1 runs, b2 was built: `./task reload` switches to it"


@pytest.mark.parametrize(
    ("running", "line"),
    [
        (None, "version b2 is built; nothing runs: `./task up` starts it"),
        ("b2", "version b2 is built, and runs"),
        ("a1", "version b2 is built; a1 runs: `./task reload` switches to it"),
    ],
)
def test_training_ends_with_what_runs_and_how_to_switch(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, running: str | None, line: str
) -> None:
    """Whether nothing, this version or another one runs."""
    _build(settings, "b2")
    _runs(monkeypatch, running)

    assert traffic.report(settings) == line
