"""What the native stack needs before it starts: programs, files, an environment."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import ROOT, environment
from tools.stack import libraries, programs
from tools.stack.services import service
from tools.stack.settings import Settings, StackError, read_env_file

_NEEDED_MB = 300
"""Room for a day of metrics, logs and a bundle."""


def wanted(name: str, settings: Settings, binaries: Mapping[str, programs.Binary]) -> bool:
    """Return whether a service is part of this stack: some are only where they can work."""
    return settings.has(name) and (name != "grafana" or name in binaries)


def check_writable(settings: Settings) -> None:
    """Raise StackError where the stack cannot write what it has to, or has no room for it."""
    try:
        settings.var.mkdir(parents=True, exist_ok=True)
        free_mb = shutil.disk_usage(settings.var).free // 10**6
        writable = os.access(settings.var, os.W_OK)
    except OSError as error:
        raise StackError(
            f"{settings.var} cannot be written ({error.strerror}): set STACK_VAR"
        ) from error
    if not writable:
        raise StackError(f"{settings.var} cannot be written: set STACK_VAR to another directory")
    if free_mb < _NEEDED_MB:
        raise StackError(
            f"{settings.var} needs {_NEEDED_MB} MB for the stack's data and has {free_mb} MB free"
        )


@contextlib.contextmanager
def preparing(settings: Settings) -> Iterator[None]:
    """Prepare the environment and the bundle while the body brings the programs.

    A terminal may be asked a question meanwhile: there, the preparation follows the body. Raises
    StackError.
    """
    if sys.stdin.isatty():
        yield
        _prepare(settings)
        return
    with ThreadPoolExecutor(1) as pool:
        prepared = pool.submit(_prepare, settings)
        yield
        prepared.result()


def _prepare(settings: Settings) -> None:
    """Install what the lock names and train the example, where that has not been done."""
    publishes = settings.has("publisher") or settings.has("prediction-log")
    locks = [environment.RUNTIME, *([environment.PUBLISHER] if publishes else [])]
    locks += [environment.LIBRARIES[name] for name in libraries.needed(bundle(settings))]
    try:
        environment.install(*locks)
    except environment.InstallError as error:
        raise StackError(str(error)) from error
    if not settings.environment.get("MODEL_BUNDLE"):
        _train(settings)


def _train(settings: Settings) -> None:
    if not (settings.var / "bundle" / "bundle.json").is_file():
        print("training the example", flush=True)
    given = {**settings.environment, "STACK_VAR": str(settings.var)}
    if subprocess.run([ROOT / "task", "bundle"], env=given, check=False).returncode:
        raise StackError("the example could not be trained; the reason is above")


def write_files(settings: Settings, names: Sequence[str]) -> None:
    """Write what the programs read, and make the directories they write to."""
    for directory in ("run", "log", "prometheus/config/targets", "grafana"):
        (settings.var / directory).mkdir(parents=True, exist_ok=True)
    for name in ("prometheus.yml", "rules"):
        _link(settings.var / "prometheus" / "config" / name, ROOT / "prometheus" / name)
    for target in (settings.var / "prometheus" / "config" / "targets").iterdir():
        target.unlink()
    _configure_alertmanager(settings)
    note(settings).write_text(json.dumps({"ports": dict(settings.ports), "services": names}))


def environment_for(settings: Settings, binaries: Mapping[str, programs.Binary]) -> dict[str, str]:
    """Return what supervisord and all its programs are started with."""
    defaults: dict[str, str] = {}
    own = sorted(ROOT.glob("services/**/settings.env"))
    for path in (*own, ROOT / "native" / "grafana.env"):
        defaults |= read_env_file(path)
    return {
        **defaults,
        **_native_defaults(settings),
        **({"GRAFANA_URL": settings.url("GRAFANA_PORT")} if "grafana" in binaries else {}),
        **settings.environment,
        **_binaries(binaries),
        **{name: str(port) for name, port in settings.ports.items()},
        "MODEL_BUNDLE": str(bundle(settings)),
        "PREDICTION_LOG": str(settings.log_directory or settings.prediction_log),
        "PROMETHEUS_MULTIPROC_DIR": str(metrics_directory(settings)),
        "STACK_PYTHON": sys.executable,
        "STACK_ROOT": str(ROOT),
        "STACK_VAR": str(settings.var),
        "STACK_SOCKET": str(settings.socket),
    }


def _binaries(binaries: Mapping[str, programs.Binary]) -> dict[str, str]:
    """Return the variables that name programs; supervisord.conf needs all of them set."""
    paths = {name: binaries[name].path if name in binaries else name for name in programs.MINIMUM}
    return {
        **{programs.variable(name): path for name, path in paths.items()},
        "GF_PATHS_HOME": programs.grafana_home(paths["grafana"]),
    }


def metrics_directory(settings: Settings) -> Path:
    """Return where the model's workers keep their counters: in memory where there is a tmpfs."""
    shm = Path("/dev/shm")  # noqa: S108
    if os.access(shm, os.W_OK):
        return shm / f"ml-monitoring-{settings.key}"
    return settings.var / "run" / "metrics"


def bundle(settings: Settings) -> Path:
    """Return the directory of the bundle that the model serves."""
    given = settings.environment.get("MODEL_BUNDLE")
    return ROOT / given if given else settings.var / "bundle"


def password_file(settings: Settings) -> Path:
    """Return the file that holds the password of Grafana's admin."""
    return settings.var / "grafana" / "admin-password"


def note(settings: Settings) -> Path:
    """Return the file that holds the ports and services that the stack was started with."""
    return settings.var / "run" / "stack.json"


def mark(settings: Settings) -> str:
    """Return the line that the environment of this stack's processes holds, and of no others."""
    return f"STACK_SOCKET={settings.socket}"


def _link(link: Path, target: Path) -> None:
    """Put the one configuration of all stacks where only this stack reads it."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


def _configure_alertmanager(settings: Settings) -> None:
    """Send alerts to Slack as well where SLACK_WEBHOOK_FILE names a file with the address."""
    directory = settings.var / "alertmanager"
    given = settings.environment.get("SLACK_WEBHOOK_FILE")
    name = "alertmanager.slack.yml" if given else "alertmanager.yml"
    _link(directory / "config" / "alertmanager.yml", ROOT / "prometheus" / name)
    if given:
        secret = ROOT / Path(given).expanduser()
        if not secret.is_file():
            raise StackError(f"SLACK_WEBHOOK_FILE={given}: there is no such file")
        _link(directory / "secrets" / "slack_webhook_url", secret)


def scraped(names: Sequence[str]) -> list[str]:
    """Return the services among these that Prometheus scrapes."""
    return [name for name in names if service(name).metrics_port]


def write_targets(settings: Settings, names: Sequence[str]) -> None:
    """Write where each of these jobs is on this machine, for Prometheus."""
    directory = settings.var / "prometheus" / "config" / "targets"
    for name in scraped(names):
        target = {
            "targets": [f"127.0.0.1:{settings.ports[service(name).metrics_port]}"],
            "labels": {"job": name},
        }
        # JSON is YAML as well.
        (directory / f"{name}.yml").write_text(json.dumps([target]) + "\n")


def _native_defaults(settings: Settings) -> dict[str, str]:
    """Return what differs from a container: addresses and paths of this machine."""
    return {
        "MODEL_HOST": "127.0.0.1",
        "LOCUST_HOST": settings.url("MODEL_PORT"),
        "LOCUST_WEB_HOST": "127.0.0.1",
        "LOCUST_METRICS_HOST": "127.0.0.1",
        "PUBLISHER_HOST": "127.0.0.1",
        **_spools(settings),
        "LOCUST_WEB_PORT": str(settings.ports["LOCUST_PORT"]),
        "MODEL_URL": settings.url("MODEL_PORT"),
        "LOCUST_URL": settings.url("LOCUST_PORT"),
        "PROMETHEUS_URL": settings.url("PROMETHEUS_PORT"),
        "ALERTMANAGER_URL": settings.url("ALERTMANAGER_PORT"),
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(
            ROOT / "grafana" / "provisioning" / "dashboards" / "overview.json"
        ),
        "GF_SERVER_ROOT_URL": settings.url("GRAFANA_PORT"),
        "GF_SERVER_HTTP_ADDR": "127.0.0.1",
        "GF_SERVER_HTTP_PORT": str(settings.ports["GRAFANA_PORT"]),
        "GF_PATHS_PROVISIONING": str(ROOT / "grafana" / "provisioning"),
        "GF_PATHS_DATA": str(settings.var / "grafana"),
        "GF_PATHS_LOGS": str(settings.var / "log" / "grafana"),
        "GF_PATHS_PLUGINS": str(settings.var / "grafana" / "plugins"),
    }


def _spools(settings: Settings) -> dict[str, str]:
    """Return where the model spools its events, for each service that reads them."""
    spools = {}
    if settings.has("publisher"):
        spools["MODEL_SPOOL_DIR"] = str(settings.var / "spool")
    if settings.has("prediction-log"):
        spools["MODEL_SPOOL_LOG_DIR"] = str(settings.var / "spool" / "log")
    return spools
