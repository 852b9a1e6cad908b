"""What keeps the native stack from starting is said in words, and nothing is left behind."""

import socket
from pathlib import Path

import pytest

from tests.support.machine import require
from tests.support.stack import Stack
from tools.stack import native, setup
from tools.stack.settings import PORTS
from tools.stack.supervisor import started_by


@pytest.fixture(name="stack")
def _stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def _refusal(stack: Stack, **settings: str) -> str:
    """Return what `up` said, having checked that it failed and left no process."""
    up = stack.task("up", **settings)
    assert up.returncode == 1, up.stdout + up.stderr
    assert not native.running(stack.settings)
    assert not started_by(setup.mark(stack.settings))
    return next(line for line in up.stderr.splitlines() if line.startswith("up: "))


@pytest.mark.parametrize("variable", PORTS)
def test_a_port_in_use_is_named(stack: Stack, variable: str) -> None:
    """Port, service and the variable to change are named before anything is started."""
    port = stack.settings.ports[variable]
    name = variable.partition("_")[0].lower()
    with socket.create_server(("127.0.0.1", port)):
        # The publisher is only where there is a Fiddler.
        said = _refusal(stack, FIDDLER_URL="http://127.0.0.1:1")

    assert said == (
        f"up: port {port}, for {name}, is in use: stop what uses it, or set {variable} in .env"
    )
    assert not stack.settings.var.exists()


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_named(stack: Stack, value: str) -> None:
    """A port must be a number that can be one."""
    up = stack.task("up", MODEL_PORT=value)

    assert up.returncode == 1
    assert f"up: MODEL_PORT={value} is not a port: a number from 1 to 65535 is" in up.stderr


def test_two_services_on_one_port_are_named(stack: Stack) -> None:
    """One port cannot serve two."""
    up = stack.task("up", MODEL_PORT="1234", PROMETHEUS_PORT="1234")

    assert up.returncode == 1
    assert "up: MODEL_PORT and PROMETHEUS_PORT are both 1234" in up.stderr


def test_missing_programs_are_named_where_nothing_can_install_them(
    stack: Stack, tmp_path: Path
) -> None:
    """Without Prometheus, apt and brew, one line says what to install."""
    for name in ("dirname", "sh", "sed", "env"):
        (tmp_path / name).symlink_to(Path("/usr/bin", name))

    said = _refusal(stack, PATH=str(tmp_path))

    assert "prometheus and alertmanager not found" in said
    assert "apt install prometheus prometheus-alertmanager" in said


def test_a_named_binary_must_exist(stack: Stack) -> None:
    """A wrong PROMETHEUS_BINARY is not replaced by another Prometheus."""
    assert _refusal(stack, PROMETHEUS_BINARY="/no/prometheus") == (
        "up: PROMETHEUS_BINARY=/no/prometheus: there is no such program"
    )


def test_an_unknown_kind_of_stack_is_refused(stack: Stack) -> None:
    """STACK is one of two words."""
    assert _refusal(stack, STACK="podman") == "up: STACK=podman is neither compose nor native"


def test_a_service_that_does_not_start_shows_its_log(stack: Stack, tmp_path: Path) -> None:
    """`up` names the service, shows the end of its log and stops what it had started."""
    require("prometheus")
    require("alertmanager")
    up = stack.task("up", MODEL_BUNDLE=str(tmp_path / "no-bundle"))

    log = stack.settings.var / "log" / "model.log"
    assert up.returncode == 1
    assert f"up: model did not start; the end of {log}:" in up.stderr
    assert log.read_text().splitlines()[-1] in up.stderr
    assert not native.running(stack.settings)
    assert not started_by(setup.mark(stack.settings))


def test_a_slack_file_must_exist(stack: Stack, tmp_path: Path) -> None:
    """A SLACK_WEBHOOK_FILE that is not there is not found out at the first alert."""
    require("prometheus")
    require("alertmanager")
    bundle, webhook = str(tmp_path / "bundle"), str(tmp_path / "webhook.secret")

    said = _refusal(stack, MODEL_BUNDLE=bundle, SLACK_WEBHOOK_FILE=webhook)

    assert said == f"up: SLACK_WEBHOOK_FILE={webhook}: there is no such file"


def test_logs_of_an_unknown_service_are_refused(stack: Stack) -> None:
    """`logs` names what it has no log of."""
    logs = stack.task("logs", "--", "nobody")

    assert logs.returncode == 1
    assert "logs: no log of nobody in" in logs.stderr
