"""What keeps the native stack from starting is one line, and nothing is left behind."""

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


def _error(stack: Stack, **settings: str) -> str:
    """Return the error of `up`, having checked that it failed and left no process."""
    up = stack.task("up", **settings)
    assert up.returncode == 1, up.stdout + up.stderr
    assert not native.running(stack.settings)
    assert not started_by(setup.mark(stack.settings))
    assert "Failed to run task" not in up.stderr
    return next(line for line in up.stderr.splitlines() if line.startswith("up: "))


@pytest.mark.parametrize("variable", PORTS)
def test_a_port_in_use_is_named(stack: Stack, variable: str) -> None:
    """Port, service and the variable to change are named before anything is started."""
    port = stack.settings.ports[variable]
    name = variable.removesuffix("_PORT").removesuffix("_METRICS").lower().replace("_", "-")
    with socket.create_server(("127.0.0.1", port)):
        # A publisher is only where its destination is.
        error = _error(stack, FIDDLER_URL="http://127.0.0.1:1", PREDICTION_LOG="s3://log")

    assert error == (
        f"up: ports in use: {port} ({name}, {variable}); stop what uses them, or set others in .env"
    )
    assert not stack.settings.var.exists()


@pytest.mark.parametrize("value", ["http", "0", "65536", "-1", "80.5"])
def test_a_port_that_is_none_is_named(stack: Stack, value: str) -> None:
    """A port must be a number that can be one."""
    up = stack.task("up", MODEL_PORT=value)

    assert up.returncode == 1
    assert f"up: MODEL_PORT={value} is not a port: it must be a number from 1 to 65535" in up.stderr


def test_two_services_on_one_port_are_named(stack: Stack) -> None:
    """One port cannot serve two."""
    up = stack.task("up", MODEL_PORT="1234", PROMETHEUS_PORT="1234")

    assert up.returncode == 1
    assert "up: MODEL_PORT and PROMETHEUS_PORT are both 1234" in up.stderr


def test_missing_programs_are_named_where_nothing_can_install_them(
    stack: Stack, tmp_path: Path
) -> None:
    """Without Prometheus, network, apt and brew, one line has every reason and what helps."""
    for name in ("cat", "dirname", "env", "grep", "mktemp", "rm", "sh"):
        (tmp_path / name).symlink_to(Path("/usr/bin", name))

    error = _error(stack, PATH=str(tmp_path))

    assert error.startswith("up: prometheus >= 2.42 is needed (127.0.0.1:9: ")
    assert "this machine has neither apt nor brew" in error
    assert error.endswith("(Debian: apt install prometheus prometheus-alertmanager)")


def test_a_named_binary_must_exist(stack: Stack) -> None:
    """A wrong PROMETHEUS_BINARY is not replaced by another Prometheus."""
    assert _error(stack, PROMETHEUS_BINARY="/no/prometheus") == (
        "up: PROMETHEUS_BINARY=/no/prometheus: there is no such program"
    )


def test_an_unknown_kind_of_stack_is_rejected(stack: Stack) -> None:
    """STACK is one of two words."""
    assert _error(stack, STACK="podman") == "up: STACK=podman is neither compose nor native"


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
    """A SLACK_WEBHOOK_FILE that is not there is reported at the start."""
    require("prometheus")
    require("alertmanager")
    bundle, webhook = str(tmp_path / "bundle"), str(tmp_path / "webhook.secret")

    error = _error(stack, MODEL_BUNDLE=bundle, SLACK_WEBHOOK_FILE=webhook)

    assert error == f"up: SLACK_WEBHOOK_FILE={webhook}: there is no such file"


def test_logs_of_a_stack_that_never_ran_are_an_error(stack: Stack) -> None:
    """One line says that there are none, and how to get some."""
    logs = stack.task("logs", "--", "nobody")

    assert logs.returncode == 1
    directory = stack.settings.var / "log"
    assert logs.stderr == (
        f"logs: no service has written a log in {directory} yet: ./task up starts them\n"
    )
