"""Images, single containers and the composed stack, for tests."""

import json
import os
import secrets
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from tests.support.machine import free_port, report_missing, require
from tools import ROOT
from tools.stack.settings import PORTS

TAG = "test"
OURS = {"model", "locust", "publisher"}
# The mount of compose.yaml.
METRICS_TMPFS = {"/run/model-metrics": "uid=10001,gid=10001,mode=0700,size=64m"}
HARDENED = {"read_only": True, "cap_drop": ["ALL"], "security_opt": ["no-new-privileges:true"]}

# Testcontainers' cleaner would be another image; here a `with` statement removes each container.
testcontainers_config.ryuk_disabled = True


def docker(*words: str) -> str:
    """Return the output of `docker`, or fail the test with its error."""
    return _run([require("docker"), *words], dict(os.environ))


def inspect(name: str) -> dict[str, Any]:
    """Return Docker's description of an image or a container."""
    found: list[dict[str, Any]] = json.loads(docker("inspect", name))
    return found[0]


@cache
def built(service: str) -> str:
    """Build a service's image once for all tests, and return its name."""
    _compose(["build", "--quiet", service], _environment())
    return f"ml-monitoring/{service}:{TAG}"


def default_services(**variables: str) -> list[str]:
    """Return the services that `docker compose up` starts, given these variables."""
    return _compose(["config", "--services"], {**_environment(), **variables}).split()


@cache
def bridge_address() -> str:
    """Return this machine's address that every container reaches, or skip the test.

    The bridge of an engine in a virtual machine is not on this machine.
    """
    template = "{{(index .IPAM.Config 0).Gateway}}"
    address = docker("network", "inspect", "--format", template, "bridge")
    with socket.socket() as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            report_missing(f"the engine's bridge ({address}) is not on this machine")
    return address


@cache
def is_available(image: str) -> bool:
    """Return whether an image exists or can be pulled."""
    binary = require("docker")
    return any(
        subprocess.run([binary, *words, image], capture_output=True, check=False).returncode == 0
        for words in (["image", "inspect"], ["pull", "--quiet"])
    )


def container(image: str, *ports: int, **options: Any) -> DockerContainer:  # noqa: ANN401
    """Return a container to start with `with`; `ports` get free ones of 127.0.0.1."""
    made = DockerContainer(image).with_kwargs(**options)
    for port in ports:
        # Docker selects a free port; by default testcontainers would bind every address.
        made.ports[str(port)] = ("127.0.0.1",)  # type: ignore[assignment]
    return made


def url(started: DockerContainer, port: int, path: str = "") -> str:
    """Return the address of a started container's port."""
    return f"http://127.0.0.1:{started.get_exposed_port(port)}{path}"


def logs(started: DockerContainer) -> str:
    """Return all output of a container."""
    return b"".join(started.get_logs()).decode()


def ended(stopped: DockerContainer) -> tuple[int, list[str]]:
    """Wait until a container has ended; return its exit code and its lines on stderr."""
    code = stopped.wait()
    return code, stopped.get_logs()[1].decode().splitlines()


def only_error(failing: DockerContainer) -> str:
    """Wait until a container has ended with 1, and return its only line on stderr."""
    code, errors = ended(failing)
    assert code == 1
    (line,) = errors
    return line


def check_command(image: str, entrypoint: list[str], probe: tuple[str, str], *ports: str) -> None:
    """Check that an image runs its program as a numbered user, with a health check.

    Kubernetes' runAsNonRoot cannot verify a user's name, and signals must reach the program, so
    there is no shell in between. `probe` is the port and path of the health check.
    """
    config = inspect(image)["Config"]

    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == entrypoint
    assert config["Healthcheck"]["Test"] == ["CMD", "python", "/srv/probe.py", *probe]
    assert {f"{port}/tcp" for port in ports} == set(config["ExposedPorts"])


def importable(image: str, *modules: str) -> list[str]:
    """Return those of some modules that Python finds in an image."""
    code = (
        "import importlib.util, sys;"
        "print(*[name for name in sys.argv[1:] if importlib.util.find_spec(name)])"
    )
    return docker("run", "--rm", "--entrypoint", "python", image, "-c", code, *modules).split()


def assert_hardened(known: dict[str, Any]) -> None:
    """Fail if a container is not healthy, or has permissions that compose.yaml should remove."""
    host = known["HostConfig"]
    published = [binding for each in host["PortBindings"].values() for binding in each]
    assert known["State"]["Health"]["Status"] == "healthy"
    assert known["Config"]["User"].partition(":")[0] not in ("", "0", "root")
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert host["Memory"] > 0
    assert {binding["HostIp"] for binding in published} == {"127.0.0.1"}


@dataclass(frozen=True)
class Stack:
    """A started Compose project."""

    project: str
    environment: dict[str, str]
    services: Sequence[str] = field(default=())

    def compose(self, *words: str) -> str:
        """Return the output of `docker compose` for this project."""
        return _compose(["--project-name", self.project, *words], self.environment)

    def url(self, port: str, path: str = "") -> str:
        """Return the address of the port that a variable sets."""
        return f"http://127.0.0.1:{self.environment[port]}{path}"

    def containers(self) -> dict[str, dict[str, Any]]:
        """Return Docker's description of each container, by service."""
        ids = self.compose("ps", "--all", "--quiet").split()
        return {
            known["Config"]["Labels"]["com.docker.compose.service"]: known
            for known in map(inspect, ids)
        }

    def leftovers(self) -> list[str]:
        """Return the containers, volumes and networks of the project."""
        mine = ("--quiet", "--filter", f"label=com.docker.compose.project={self.project}")
        lists = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
        found = (docker(*words, *mine) for words in lists)
        return [name for lines in found for name in lines.split()]

    def down(self) -> None:
        """Remove everything that the project created."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "10")


@contextmanager
def composed(*services: str, **variables: str) -> Iterator[Stack]:
    """Start services of compose.yaml on free ports until all are healthy, and remove them."""
    for image in OURS & {"publisher" if each == "prediction-log" else each for each in services}:
        built(image)
    project = f"ml-monitoring-test-{secrets.token_hex(4)}"
    stack = Stack(project, {**_environment(), **variables}, services)
    try:
        try:
            stack.compose(
                "up", "--no-build", "--detach", "--wait", "--wait-timeout", "180", *services
            )
        except pytest.fail.Exception:
            print(stack.compose("logs", "--no-color", "--tail", "50"))  # noqa: T201 the reason
            for name, known in stack.containers().items():
                print(name, known["State"])  # noqa: T201 its health checks too
            raise
        yield stack
    finally:
        stack.down()


def _environment() -> dict[str, str]:
    """Return an environment in which neither the shell nor .env influences Compose."""
    kept = {name: os.environ[name] for name in os.environ if name in _KEPT}
    ports = {name: str(free_port()) for name in PORTS}
    return {**kept, **ports, "IMAGE_TAG": TAG, "COMPOSE_DISABLE_ENV_FILE": "1"}


_KEPT = ("PATH", "HOME", "DOCKER_HOST", "DOCKER_CONFIG", "DOCKER_CONTEXT", "XDG_RUNTIME_DIR")


def _compose(words: Sequence[str], environment: dict[str, str]) -> str:
    return _run([require("docker"), "compose", *words], environment)


def _run(command: Sequence[str], environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.fail(f"{' '.join(command)}: {done.stderr or done.stdout}", pytrace=False)
    return done.stdout.strip()
