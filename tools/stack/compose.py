"""The stack as containers."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from tools import ROOT
from tools.stack import libraries, probe, project, readable, traffic
from tools.stack.ports import check_ports
from tools.stack.services import SERVICES, addresses, service, table
from tools.stack.settings import Settings, StackError

_SCRAPE_SECONDS = 30.0
"""Two scrape intervals."""
# Files belong to the group of their directory, so that who is in it may read them.
_LOG_MODE = 0o2770
_DOCKER = ("docker",)
_COMPOSE = (*_DOCKER, "compose")
# Compose begins each line with it, whether or not it writes to a terminal.
_ERASE_LINE = "\x1b[2K"
_PASSWORD = "/var/lib/grafana/admin-password"  # noqa: S105


def missing() -> str | None:
    """Return what this machine lacks to run containers; None where it can."""
    if not shutil.which("docker"):
        return "docker is not installed"
    if not _answers(["docker", "info"]):
        return "no Docker engine answers"
    if not _answers([*_COMPOSE, "version"]):
        return "docker has no Compose plugin"
    return None


def running(settings: Settings) -> bool:
    """Return whether any container of the stack exists."""
    return bool(_output(settings, "ps", "--all", "--quiet"))


def up(settings: Settings) -> None:
    """Build and start every container, wait until all are healthy and print every URL."""
    make_log_directory(settings)
    planned = _output(settings, "config", "--services").split()
    if not running(settings):
        check_ports(settings, [name for name in _ours() if name in planned])
    elif gone := sorted({*_containers(settings)} - {*planned}):
        # Such as the publisher, once there is no Fiddler: `up` would leave it running.
        _compose(settings, "--profile", "*", "rm", "--stop", "--force", *gone)
    started = _with_images(settings, planned)
    project.remember(settings)
    try:
        _compose(settings, "up", "--detach", "--build", "--wait", *started)
    except StackError:
        _print_why(settings)
        raise
    _check_slack(settings)
    print("the stack is up, in containers")
    containers = _containers(settings)
    _wait_until_scraped(settings, [name for name in _ours() if name in containers])
    print(table(addresses(settings, [name for name in _ours() if name in containers])))
    if "grafana" in containers:
        print("Grafana: user admin; `./task status` shows the password")
    _print_page(settings)


def _print_why(settings: Settings) -> None:
    """Print the last lines of each container that does not work, and of its health check.

    Compose itself says no more than that a container is unhealthy or has exited.
    """
    for name, container in sorted(_containers(settings).items()):
        if (state := _state(container)) in ("healthy", "running", "done", "created"):
            continue
        print(f"{name} is {state}; its last lines:")
        lines = _output(settings, "logs", "--no-color", "--no-log-prefix", "--tail", "10", name)
        print(lines.replace(_ERASE_LINE, ""))
        health = _run(*_DOCKER, "inspect", "--format", "{{json .State.Health}}", container["ID"])
        checks = (json.loads(health or "null") or {}).get("Log") or []
        if checks and checks[-1]["ExitCode"]:
            print(f"its health check: {checks[-1]['Output'].strip()}")
    bundle = settings.var / "bundle"
    if advice := readable.advice(*[bundle.resolve()] if bundle.exists() else []):
        print(advice)


def _check_slack(settings: Settings) -> None:
    """Raise StackError if Alertmanager cannot read the webhook: alerts would end in its log."""
    name = "SLACK_WEBHOOK_FILE"
    if name not in settings.environment or "alertmanager" not in _containers(settings):
        return
    if not _output(settings, "exec", "-T", "alertmanager", "cat", "secrets/slack_webhook_url"):
        raise StackError(
            f"{name}={settings.environment[name]} is empty, or Alertmanager's container cannot read"
            " it: it runs as user 65534, whom the file must allow to (chmod o+r, or setfacl)"
        )


def _wait_until_scraped(settings: Settings, names: Sequence[str]) -> None:
    """Wait until no job is down in Prometheus, whose first scrape may have come too early.

    A healthy service is found by the next scrape; if not, `status` and `doctor` report it.
    """
    deadline = time.monotonic() + _SCRAPE_SECONDS
    while time.monotonic() < deadline:
        health = probe.targets(settings)
        if all(health.get(name, "down") != "down" for name in names):
            return
        time.sleep(0.2)


def _with_images(settings: Settings, planned: Sequence[str]) -> list[str]:
    """Return the services to start, having pulled what is missing; Grafana can be left out."""
    services = json.loads(_output(settings, "config", "--format", "json") or "{}").get(
        "services", {}
    )
    started = list(planned)
    for name in planned:
        image = services.get(name, {}).get("image", "")
        if "build" in services.get(name, {}) or _answers([*_DOCKER, "image", "inspect", image]):
            continue
        print(f"pulling {image}", flush=True)
        if _pulled(settings, name):
            continue
        if name != "grafana":
            raise StackError(
                f"the image {image} cannot be pulled (docker's reason is above); `docker load` it,"
                " or `STACK=native ./task up` starts the stack as plain processes"
            )
        print(f"the image {image} cannot be pulled: starting without Grafana", flush=True)
        started.remove(name)
    return started


def _pulled(settings: Settings, name: str) -> bool:
    command = [*_COMPOSE, "pull", "--quiet", name]
    environment = environment_for(settings)
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


def down(settings: Settings) -> None:
    """Remove the containers; their volumes stay."""
    _compose(settings, "--profile", "*", "down", "--remove-orphans")
    print("the stack is down; `./task clean` removes its data as well")


def status(settings: Settings) -> bool:
    """Print each container's state and URL; return whether all of them work."""
    containers = _containers(settings)
    if not containers:
        print("nothing is running; `./task up` starts the stack")
        return False
    print("the stack in containers")
    states = {name: _state(container) for name, container in sorted(containers.items())}
    rows = [
        (name, state, settings.url(service(name).port) if name in _ours() else "")
        for name, state in states.items()
    ]
    print(table(rows))
    if password := _output(settings, "exec", "-T", "grafana", "cat", _PASSWORD):
        print(f"Grafana: user admin, password {password}")
    _print_page(settings)
    for line in traffic.lines(settings):
        print(line)
    return all(state in ("healthy", "running", "done") for state in states.values())


def reload(settings: Settings) -> None:
    """Let the model take the bundle that is there now.

    A container has another version's directory only if it is started again; it finishes the
    requests in progress. If it has the same directory, the service in it reloads.
    """
    before = _containers(settings).get("model")
    if before is None:
        raise StackError("the model is not running; `./task up` starts it")
    _compose(settings, "up", "--detach", "--no-deps", "--wait", "model")
    if _containers(settings)["model"]["ID"] == before["ID"]:
        _compose(settings, "kill", "--signal", "HUP", "model")
        print("the model reloads the bundle of its directory; ./task logs -- model")
    else:
        print(f"version {traffic.built_version(settings)} is served by a new container")


def logs(settings: Settings, names: Sequence[str]) -> None:
    """Follow the logs of some services, or of all."""
    there = sorted(_containers(settings))
    if not there:
        raise StackError("nothing is running; ./task up starts the stack")
    if missing := [name for name in names if name not in there]:
        raise StackError(f"no log of {', '.join(missing)}; there are: {', '.join(there)}")
    os.chdir(ROOT)
    os.execvpe(  # noqa: S606
        _COMPOSE[0],
        [*_COMPOSE, "logs", "--follow", "--tail", "20", *names],
        environment_for(settings),
    )


def clean(settings: Settings) -> None:
    """Remove the containers with their volumes."""
    _compose(settings, "--profile", "*", "down", "--remove-orphans", "--volumes")


def _ours() -> list[str]:
    return [one.name for one in SERVICES]


def _containers(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return each container as `docker compose ps` shows it, by service."""
    text = _output(settings, "ps", "--all", "--format", "json")
    # Compose before 2.21 wrote one list, since then it writes one object a line.
    found = json.loads(text) if text.startswith("[") else map(json.loads, text.splitlines())
    return {container["Service"]: container for container in found}


def _state(container: dict[str, Any]) -> str:
    """Return a container's health, or its state where it has no health check."""
    if container["State"] == "exited" and container["ExitCode"] == 0:
        return "done"
    return str(container["Health"] or container["State"])


def _compose(settings: Settings, *words: str) -> None:
    command = [*_COMPOSE, *words]
    done = subprocess.run(command, cwd=ROOT, env=environment_for(settings), check=False)
    if done.returncode:
        raise StackError(f"`{' '.join(command)}` failed; its own message is above")


def _output(settings: Settings, *words: str) -> str:
    """Return what a Compose command prints; nothing where it fails."""
    return _run(*_COMPOSE, *words, environment=environment_for(settings))


def _run(*command: str, environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def environment_for(settings: Settings) -> dict[str, str]:
    """Return what Compose is started with.

    FIDDLER_URL and PREDICTION_LOG switch their profiles on. A bundle that was built on this machine
    takes the place of the images' own, which get the libraries that it names.
    """
    profiles = {"fiddler": "publisher", "prediction-log": "prediction-log"}
    chosen = ",".join(name for name, service in profiles.items() if settings.has(service))
    built = settings.var / "bundle"
    # The version's directory: a container has what the link stood for when it was created.
    bundle = {"MODEL_BUNDLE": str(built.resolve())} if (built / "bundle.json").is_file() else {}
    served = ROOT / ({**bundle, **settings.environment}.get("MODEL_BUNDLE") or built)
    return {
        **({"COMPOSE_PROFILES": chosen} if chosen else {}),
        **bundle,
        "MODEL_LIBRARIES": " ".join(libraries.needed(served)),
        **settings.environment,
        **log_environment(settings),
        "COMPOSE_PROJECT_NAME": project.name(settings),
    }


def log_environment(settings: Settings) -> dict[str, str]:
    """Return where the prediction log is: a directory that is mounted, or an object store."""
    if directory := settings.log_directory:
        group = {"PREDICTION_LOG_GROUP": str(directory.stat().st_gid)} if directory.is_dir() else {}
        return {"PREDICTION_LOG": str(directory), **group}
    if settings.prediction_log:
        store = settings.prediction_log
        return {"PREDICTION_LOG_STORE": store, "PREDICTION_LOG_MOUNT": os.devnull}
    return {}


def make_log_directory(settings: Settings) -> None:
    """Make the directory of the prediction log, for a container whose user is in its group."""
    directory = settings.log_directory
    if directory is None:
        return
    try:
        if not directory.is_dir():
            directory.mkdir(parents=True)
            directory.chmod(_LOG_MODE)
        mode = directory.stat().st_mode
    except OSError as error:
        raise StackError(f"PREDICTION_LOG={directory}: {error.strerror}") from error
    if mode & _LOG_MODE != _LOG_MODE:
        raise StackError(
            f"PREDICTION_LOG={directory}: its group must be able to write there, as a container"
            f" does: chmod {_LOG_MODE:o} {directory}"
        )


def _print_page(settings: Settings) -> None:
    if url := probe.page(settings):
        print(f"all pages at a glance: {url}")


def _answers(command: Sequence[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, timeout=20, check=False)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0
