"""The stack as plain processes under supervisord, for machines without containers."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tools import ROOT
from tools.stack import grafana, ports, probe, programs, setup, traffic
from tools.stack.services import NATIVE, addresses, service, table
from tools.stack.settings import Settings, StackError
from tools.stack.supervisor import Process, Supervisor, started_by

CONFIGURATION = ROOT / "native" / "supervisord.conf"

# Locust waits for the model, or it would count errors while that loads. Prometheus starts at once,
# since it reads its targets only after 5 s, but gets those of a stage when they are ready: after a
# scrape that finds nobody the next is an interval away.
_STAGES = (
    ("model", "prometheus", "alertmanager", "grafana", "report"),
    ("locust", "publisher", "prediction-log"),
)
_START_SECONDS = 120
_STOP_SECONDS = 60
# More than the check of a new bundle may take.
_RELOAD_SECONDS = 130
_PROBES = 10
_PROGRESS_SECONDS = 4.0
_LOG_LINES = 10


@dataclass(frozen=True)
class _Stack:
    """A stack that runs: with which ports, and which services."""

    settings: Settings
    names: Sequence[str]
    supervisor: Supervisor


def running(settings: Settings) -> bool:
    """Return whether this checkout's supervisord answers."""
    return Supervisor(settings.socket).answers()


def up(settings: Settings) -> None:
    """Start what does not run yet, wait until it is ready and print every URL."""
    found = _running_stack(settings)
    stack = found or _launch(settings)
    try:
        _start(stack)
    except BaseException:
        if not found:
            _end(settings)
        raise
    print("the native stack was running already" if found else "the native stack is up")
    print(table(addresses(stack.settings, stack.names)))
    if "grafana" in stack.names:
        print(f"Grafana: user admin, password {grafana.password_place(settings)}")
    _print_page(stack)
    _print_without_grafana(stack)


def down(settings: Settings) -> None:
    """End exactly what `up` started; what it wrote stays."""
    if not running(settings) and not started_by(setup.mark(settings)):
        print("no native stack of this checkout is running")
        return
    _end(settings)
    print("the native stack is down; `./task clean` removes its data as well")


def status(settings: Settings) -> bool:
    """Print each service's state and URL; return whether all of them work."""
    stack = _running_stack(settings)
    if stack is None:
        print("nothing is running; `./task up` starts the stack")
        return False
    states = _states(stack)
    print(f"native stack, data in {settings.var}")
    urls = {name: stack.settings.url(service(name).port) for name in states}
    print(table([(name, state, urls[name]) for name, state in states.items()]))
    if "grafana" in stack.names:
        print(f"Grafana: user admin, password {grafana.password(settings)}")
    _print_page(stack)
    _print_without_grafana(stack)
    for line in traffic.lines(stack.settings):
        print(line)
    return set(states.values()) == {"ready"}


def reload(settings: Settings) -> None:
    """Let the model take the bundle that is there now, and print whether it did."""
    stack = _running_stack(settings)
    before = probe.reloads(stack.settings) if stack else {}
    if stack is None or not before:
        raise StackError("the model is not running; `./task up` starts it")
    stack.supervisor.signal("model", signal.SIGHUP)
    deadline = time.monotonic() + _RELOAD_SECONDS
    while time.monotonic() < deadline:
        now = probe.reloads(stack.settings)
        outcomes = [name for name, value in now.items() if value > before.get(name, 0)]
        if outcomes:
            _print_reload(stack, outcomes[0], deadline)
            return
        time.sleep(0.1)
    raise StackError(f"the model did not reload within {_RELOAD_SECONDS} s; ./task logs -- model")


def _print_reload(stack: _Stack, outcome: str, deadline: float) -> None:
    log = stack.supervisor.processes()["model"].log
    lines = log.read_text(errors="replace").splitlines()
    if outcome == "kept":
        said = [line for line in lines if " is kept: " in line]
        reason = json.loads(said[-1])["message"] if said else "its log says why"
        raise StackError(f"the new bundle does not work: {reason}")
    built = traffic.built_version(stack.settings)
    # The old workers accept connections until they get a signal to stop.
    while _answering(stack) != {built} and time.monotonic() < deadline:
        time.sleep(0.1)
    print(f"version {built} is served; it was {outcome}")


def _answering(stack: _Stack) -> set[str | None]:
    """Return the versions of several new connections."""
    return {probe.running_version(stack.settings) for _ in range(_PROBES)}


def logs(settings: Settings, names: Sequence[str]) -> None:
    """Follow the logs of some services, or of all."""
    directory = settings.var / "log"
    there = sorted(path.stem for path in directory.glob("*.log"))
    if not there:
        raise StackError(f"no service has written a log in {directory} yet: ./task up starts them")
    if missing := [name for name in names if name not in there]:
        raise StackError(f"no log of {', '.join(missing)}; there are: {', '.join(there)}")
    wanted = [directory / f"{name}.log" for name in names or there]
    os.execvp("tail", ["tail", "-n", "20", "-F", *map(str, wanted)])  # noqa: S606


def clean(settings: Settings) -> None:
    """Take the stack down and remove all it wrote."""
    if settings.var in (ROOT, *ROOT.parents):
        raise StackError(f"STACK_VAR={settings.var} holds more than a stack's data: not removed")
    down(settings)
    shutil.rmtree(settings.var, ignore_errors=True)
    print(f"removed {settings.var}")


def _running_stack(settings: Settings) -> _Stack | None:
    """Return what runs, with the ports it was started with (.env may say otherwise by now)."""
    supervisor = Supervisor(settings.socket)
    if not supervisor.answers():
        return None
    noted = json.loads(setup.note(settings).read_text())
    return _Stack(replace(settings, ports=noted["ports"]), noted["services"], supervisor)


def _launch(settings: Settings) -> _Stack:
    """Start supervisord, with no program running yet."""
    if left := started_by(setup.mark(settings)):
        raise StackError(
            f"{len(left)} processes of a killed stack still run: ./task down ends them"
        )
    # Grafana may still have to be downloaded: its port is checked in any case.
    ports.check_ports(settings, [one.name for one in NATIVE if settings.has(one.name)])
    setup.check_writable(settings)
    with setup.preparing(settings):
        binaries = programs.bring(settings.environment)
    names = [one.name for one in NATIVE if setup.wanted(one.name, settings, binaries)]
    environment = setup.environment_for(settings, binaries)
    setup.write_files(settings, names)
    _print_debian(binaries)
    print(f"starting {', '.join(names)}", flush=True)
    supervisor = Supervisor(settings.socket)
    setup.metrics_directory(settings).mkdir(mode=0o700, parents=True, exist_ok=True)
    supervisor.launch(CONFIGURATION, environment)
    return _Stack(settings, names, supervisor)


def _start(stack: _Stack) -> None:
    """Start the services stage by stage."""
    pids: dict[str, int] = {}
    ready: list[str] = []
    for stage in _STAGES:
        names = [name for name in stage if name in stack.names]
        processes = stack.supervisor.processes()
        for name in names:
            if not processes[name].up:
                stack.supervisor.start(name)
        _wait_until_ready(stack, names, pids)
        ready += names
        setup.write_targets(stack.settings, ready)
    _wait_until_found(stack, pids)


def _wait_until_ready(stack: _Stack, names: Sequence[str], pids: dict[str, int]) -> None:
    def waiting() -> list[str]:
        return [name for name in names if not probe.ready(stack.settings, service(name))]

    for name in _wait(stack, waiting, pids):
        process = stack.supervisor.processes()[name]
        raise StackError(f"{name} was not ready after {_START_SECONDS} s; {_log_tail(process)}")


def _wait_until_found(stack: _Stack, pids: dict[str, int]) -> None:
    """Wait until Prometheus has every job; the first scrape follows within its interval."""

    def waiting() -> list[str]:
        health = probe.targets(stack.settings)
        names = setup.scraped(stack.names)
        return [name for name in names if health.get(name, "down") == "down"]

    if names := _wait(stack, waiting, pids):
        missing = ", ".join(names)
        raise StackError(f"Prometheus did not reach {missing} within {_START_SECONDS} s")


def _wait(stack: _Stack, waiting: Callable[[], list[str]], pids: dict[str, int]) -> list[str]:
    """Wait until nothing is waited for, as long as every service lives; return what is left."""
    start = printed = time.monotonic()
    while left := waiting():
        now = time.monotonic()
        if now > start + _START_SECONDS:
            return left
        if now > printed + _PROGRESS_SECONDS:
            print(f"  waiting for {', '.join(left)}", flush=True)
            printed = now
        _check_alive(stack, pids)
        time.sleep(0.1)
    return []


def _check_alive(stack: _Stack, pids: dict[str, int]) -> None:
    """Raise when a started service ended, even if supervisord has started it again."""
    for name, process in stack.supervisor.processes().items():
        if process.state == "STOPPED":  # its stage has not come
            continue
        if not process.up or pids.setdefault(name, process.pid) != process.pid:
            raise StackError(f"{name} did not start; {_log_tail(process)}")


def _log_tail(process: Process) -> str:
    lines = process.log.read_text(errors="replace").splitlines() if process.log.exists() else []
    return "\n  ".join([f"the end of {process.log}:", *lines[-_LOG_LINES:]])


def _states(stack: _Stack) -> dict[str, str]:
    """Return, per service, "ready" or what it is instead."""
    processes = stack.supervisor.processes()
    health = probe.targets(stack.settings)
    return {name: _state(stack, processes[name], health.get(name)) for name in stack.names}


def _state(stack: _Stack, process: Process, health: str | None) -> str:
    if not process.up:
        return process.state.lower()
    if not probe.ready(stack.settings, service(process.name)):
        return "not ready"
    return "not scraped" if health == "down" else "ready"


def _end(settings: Settings) -> None:
    """Stop everything this stack started, and wait until it is gone."""
    supervisor = Supervisor(settings.socket)
    if supervisor.answers():
        supervisor.shutdown()
    else:  # supervisord was killed, or its socket removed with var/
        _signal(settings, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    while supervisor.answers() or started_by(setup.mark(settings)):
        if time.monotonic() > deadline:
            _signal(settings, signal.SIGKILL)
        time.sleep(0.1)
    shutil.rmtree(setup.metrics_directory(settings), ignore_errors=True)
    settings.socket.unlink(missing_ok=True)


def _signal(settings: Settings, number: signal.Signals) -> None:
    for pid in started_by(setup.mark(settings)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # it ended meanwhile
            continue


def _print_page(stack: _Stack) -> None:
    if url := probe.page(stack.settings):
        print(f"all pages at a glance: {url}")


def _print_without_grafana(stack: _Stack) -> None:
    if "grafana" not in stack.names:
        print(grafana.missing(stack.settings))


def _print_debian(binaries: Mapping[str, programs.Binary]) -> None:
    names = [name for name, binary in binaries.items() if binary.debian]
    if names:
        print(
            f"Debian's {' and '.join(names)} lack most web pages:"
            " `./task fetch` downloads the official ones, which the next start takes"
        )
