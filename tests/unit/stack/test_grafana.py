"""What the native stack says of Grafana and of the report that takes its place."""

from pathlib import Path

import pytest

from tools.stack import grafana, probe, programs
from tools.stack.services import REPORT, addresses, service
from tools.stack.settings import Settings, load_settings
from tools.stack.setup import scraped


def _settings(directory: Path, **given: str) -> Settings:
    return load_settings({"STACK_VAR": str(directory / "var"), **given}, directory)


def test_without_grafana_the_report_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the same dashboards, on its own port."""
    monkeypatch.setattr(programs, "find", lambda *_: None)

    said = grafana.missing(_settings(tmp_path))

    assert said.startswith("without Grafana: its dashboards are at http://127.0.0.1:3001;")


def test_a_grafana_that_came_later_needs_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stack that runs without one says what to do, once the machine has one."""
    monkeypatch.setattr(programs, "find", lambda *_: programs.Binary("/usr/bin/grafana", (13,)))

    assert grafana.missing(_settings(tmp_path)) == (
        "Grafana is there now: `./task down`, then `./task up` starts the stack with it"
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "in {var}/grafana/admin-password; `./task status` shows it"),
        ({"GF_SECURITY_ADMIN_PASSWORD": "secret"}, "as given in GF_SECURITY_ADMIN_PASSWORD"),
    ],
)
def test_up_says_where_the_password_is_and_not_what(
    given: dict[str, str], text: str, tmp_path: Path
) -> None:
    """What `up` prints ends in logs of CI, so the password is not part of it."""
    settings = _settings(tmp_path, **given)

    assert grafana.password_place(settings) == text.format(var=settings.var)


def test_the_report_is_a_page_and_no_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has one port and one address, is ready without metrics, and nobody scrapes it."""
    settings = load_settings({"REPORT_PORT": "13001"}, tmp_path)
    asked: list[str] = []

    def get(url: str) -> bytes:
        asked.append(url)
        return b""

    monkeypatch.setattr(probe, "_get", get)

    assert service("report") is REPORT
    assert REPORT.ports == ("REPORT_PORT",)
    assert addresses(settings, ["report"]) == [("report", "http://127.0.0.1:13001")]
    assert scraped(["model", "report"]) == ["model"]
    assert probe.ready(settings, REPORT)
    assert asked == ["http://127.0.0.1:13001/healthz"]
