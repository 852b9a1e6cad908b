"""Reading what `docker compose` prints, and starting without an image that cannot be had."""

import json
from pathlib import Path
from typing import Any

import pytest

from tools import ROOT
from tools.stack import compose, probe, project, readable, traffic
from tools.stack.settings import PORTS, StackError, load_settings

HEALTHY = {"Service": "model", "State": "running", "Health": "healthy", "ExitCode": 0}
PLAIN = {"Service": "prometheus", "State": "running", "Health": "", "ExitCode": 0}
DONE = {"Service": "setup", "State": "exited", "Health": "", "ExitCode": 0}
DEAD = {"Service": "locust", "State": "exited", "Health": "", "ExitCode": 1}


@pytest.fixture(autouse=True)
def _nothing_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep services of this machine, and its .env, out of the tests."""
    monkeypatch.setattr(probe, "page", lambda _: None)
    monkeypatch.setattr(traffic, "lines", lambda _: ())
    monkeypatch.setattr(project, "remember", lambda _: None)
    monkeypatch.setattr(compose, "_wait_until_scraped", lambda *_: None)


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

    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["model", "healthy", f"http://127.0.0.1:{PORTS['MODEL_PORT']}"] in printed
    assert ["prometheus", "running", f"http://127.0.0.1:{PORTS['PROMETHEUS_PORT']}"] in printed
    assert ["setup", "done"] in printed
    assert ["Grafana:", "user", "admin,", "password", "secret"] in printed


def test_a_dead_container_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` exits with 1 while a container is dead."""
    _says(monkeypatch, "\n".join(map(json.dumps, [HEALTHY, DEAD])))

    assert not compose.status(load_settings({}, tmp_path))


def test_no_container_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stack that does not run is not a healthy one."""
    _says(monkeypatch, "")

    assert not compose.status(load_settings({}, tmp_path))


def test_a_service_no_longer_wanted_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The publisher, once FIDDLER_URL is gone, before the others are brought up."""
    publisher = {**HEALTHY, "Service": "publisher"}
    answers = {"ps": "\n".join(map(json.dumps, [HEALTHY, publisher])), "config": "model\nlocust"}
    monkeypatch.setattr(compose, "_with_images", lambda _, planned: planned)
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(compose, "_output", lambda _, word, *__: answers[word])
    monkeypatch.setattr(compose, "_compose", lambda _, *words: asked.append(words))

    compose.up(load_settings({}, tmp_path))

    removed, started = asked
    assert removed == ("--profile", "*", "rm", "--stop", "--force", "publisher")
    assert started[0] == "up"


def test_a_failed_start_shows_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The log's end of each container that does not work, and what its health check said."""
    sick = {**HEALTHY, "Health": "unhealthy", "ID": "f00"}
    answers = {
        "ps": "\n".join(map(json.dumps, [sick, PLAIN])),
        "config": "model\nprometheus",
        "logs": "\x1b[2Kno space left on device",
    }
    health = {"Log": [{"ExitCode": 1, "Output": "connection refused\n"}]}
    monkeypatch.setattr(compose, "_with_images", lambda _, planned: planned)
    monkeypatch.setattr(compose, "_output", lambda _, word, *__: answers[word])
    monkeypatch.setattr(compose, "_run", lambda *_: json.dumps(health))
    monkeypatch.setattr(readable, "advice", lambda: "chmod")

    def fail(_: object, *words: str) -> None:
        raise StackError(words[0])

    monkeypatch.setattr(compose, "_compose", fail)

    with pytest.raises(StackError, match="up"):
        compose.up(load_settings({}, tmp_path))

    assert capsys.readouterr().out.splitlines() == [
        "model is unhealthy; its last lines:",
        "no space left on device",
        "its health check: connection refused",
        "chmod",
    ]


def test_a_webhook_that_alertmanager_cannot_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would start all the same, and every notification would end in its log."""
    alertmanager = {**HEALTHY, "Service": "alertmanager"}
    answers = {"ps": json.dumps(alertmanager), "config": "alertmanager", "exec": ""}
    monkeypatch.setattr(compose, "_with_images", lambda _, planned: planned)
    monkeypatch.setattr(compose, "_output", lambda _, word, *__: answers[word])
    monkeypatch.setattr(compose, "_compose", lambda *_: None)

    with pytest.raises(StackError, match=r"SLACK_WEBHOOK_FILE=slack\.secret .* 65534"):
        compose.up(load_settings({"SLACK_WEBHOOK_FILE": "slack.secret"}, tmp_path))


CONFIG: dict[str, Any] = {
    "model": {"image": "ml-monitoring/model:0", "build": {}},
    "prometheus": {"image": "prom/prometheus:v0"},
    "grafana": {"image": "grafana/grafana:0"},
}


def _images(monkeypatch: pytest.MonkeyPatch, *, present: set[str], pulled: set[str]) -> list[str]:
    """Play a machine with some images, and a registry with others; return what is started."""
    started: list[str] = []
    answers = {"ps": "", "config": "model\nprometheus\ngrafana"}

    def output(_: object, word: str, *options: str) -> str:
        return (
            json.dumps({"services": CONFIG})
            if word == "config" and options[-1] == "json"
            else answers[word]
        )

    def run(_: object, *words: str) -> None:
        started.extend(word for word in words if word in CONFIG)

    monkeypatch.setattr(compose, "_output", output)
    monkeypatch.setattr(compose, "_compose", run)
    monkeypatch.setattr(compose, "check_ports", lambda *_: None)
    monkeypatch.setattr(compose, "_answers", lambda command: command[-1] in present)
    monkeypatch.setattr(compose, "_pulled", lambda _, name: CONFIG[name]["image"] in pulled)
    return started


def test_the_stack_starts_without_grafana_where_its_image_cannot_be_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the image; our own images are built, so nobody is asked for them."""
    monkeypatch.setattr(compose, "addresses", lambda *_: [("model", "http://x")])
    started = _images(monkeypatch, present={"prom/prometheus:v0"}, pulled=set())

    compose.up(load_settings({}, tmp_path))

    assert started == ["model", "prometheus"]
    line = "the image grafana/grafana:0 cannot be pulled: starting without Grafana"
    assert line in capsys.readouterr().out.splitlines()


def test_an_image_that_is_needed_and_cannot_be_pulled_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the image and what starts the stack without it; nothing is started."""
    started = _images(monkeypatch, present=set(), pulled={"grafana/grafana:0"})

    with pytest.raises(
        StackError, match=r"^the image prom/prometheus:v0 cannot be pulled"
    ) as error:
        compose.up(load_settings({}, tmp_path))

    assert "`STACK=native ./task up`" in str(error.value)
    assert started == []


def test_logs_of_an_unknown_service_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the services that there are."""
    _says(monkeypatch, "\n".join(map(json.dumps, [HEALTHY, PLAIN])))

    with pytest.raises(StackError, match=r"^no log of foo; there are: model, prometheus$"):
        compose.logs(load_settings({}, tmp_path), ["model", "foo"])


def test_the_log_is_mounted_for_the_group_of_its_directory(tmp_path: Path) -> None:
    """`up` makes the directory, relative to the checkout if the setting is, for a container."""
    directory = tmp_path / "some" / "log"
    settings = load_settings({"PREDICTION_LOG": str(directory)}, tmp_path)

    compose.make_log_directory(settings)

    assert directory.stat().st_mode & 0o7777 == 0o2770
    assert compose.log_environment(settings) == {
        "PREDICTION_LOG": str(directory),
        "PREDICTION_LOG_GROUP": str(directory.stat().st_gid),
    }
    relative = load_settings({"PREDICTION_LOG": "var/log"}, tmp_path)
    assert relative.log_directory == ROOT / "var" / "log"


def test_a_log_that_a_container_cannot_write_is_an_error(tmp_path: Path) -> None:
    """The command that helps is in the message."""
    settings = load_settings({"PREDICTION_LOG": str(tmp_path)}, tmp_path)
    tmp_path.chmod(0o700)

    with pytest.raises(StackError, match=rf"chmod 2770 {tmp_path}$"):
        compose.make_log_directory(settings)


def test_an_object_store_is_not_mounted(tmp_path: Path) -> None:
    """The container gets its URL, and nothing in place of a directory."""
    settings = load_settings({"PREDICTION_LOG": "s3://bucket/log"}, tmp_path)

    compose.make_log_directory(settings)

    assert compose.log_environment(settings) == {
        "PREDICTION_LOG_STORE": "s3://bucket/log",
        "PREDICTION_LOG_MOUNT": "/dev/null",
    }


@pytest.mark.parametrize(
    ("given", "profiles"),
    [
        ({}, None),
        ({"FIDDLER_URL": "https://x"}, "fiddler"),
        ({"PREDICTION_LOG": "s3://x"}, "prediction-log"),
        ({"FIDDLER_URL": "https://x", "PREDICTION_LOG": "s3://x"}, "fiddler,prediction-log"),
    ],
)
def test_each_destination_switches_its_own_profile_on(
    tmp_path: Path, given: dict[str, str], profiles: str | None
) -> None:
    """With both, both run."""
    own = {**given, "COMPOSE_PROJECT_NAME": "test"}
    environment = compose.environment_for(load_settings(own, tmp_path))

    assert environment.get("COMPOSE_PROFILES") == profiles
