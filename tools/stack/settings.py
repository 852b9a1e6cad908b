"""The settings of the stack: the environment, then .env, then the services' own defaults."""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools import ROOT

# The contract's ports; each name is also the variable that changes it.
PORTS = {
    "MODEL_PORT": 8000,
    "MODEL_METRICS_PORT": 8001,
    "PROMETHEUS_PORT": 9090,
    "ALERTMANAGER_PORT": 9093,
    "GRAFANA_PORT": 3000,
    "LOCUST_PORT": 8089,
    "LOCUST_METRICS_PORT": 9646,
    "PUBLISHER_METRICS_PORT": 9647,
    "PREDICTION_LOG_METRICS_PORT": 9648,
    "REPORT_PORT": 3001,
}

# sun_path holds 104 bytes on macOS, 108 on Linux; supervisord adds a suffix while it binds.
_LONGEST_SOCKET_PATH = 90


class StackError(Exception):
    """Why a command cannot be carried out, in one line for the person who typed it."""


@dataclass(frozen=True)
class Settings:
    """The settings of this checkout's stack."""

    environment: Mapping[str, str]
    ports: Mapping[str, int]
    var: Path
    """The directory that holds all the native stack writes; tests give each stack its own."""

    @property
    def key(self) -> str:
        """A name for this stack's paths outside `var`, which no other checkout has."""
        return hashlib.sha256(str(self.var).encode()).hexdigest()[:12]

    @property
    def socket(self) -> Path:
        """The Unix socket on which this stack's supervisord answers."""
        path = self.var / "run" / "supervisor.sock"
        if len(str(path)) <= _LONGEST_SOCKET_PATH:
            return path
        return Path(tempfile.gettempdir()) / f"ml-monitoring-{self.key}.sock"

    @property
    def with_fiddler(self) -> bool:
        """Whether events go to Fiddler."""
        return bool(self.environment.get("FIDDLER_URL"))

    @property
    def prediction_log(self) -> str:
        """The directory or URL to which events are logged; empty for nowhere."""
        return self.environment.get("PREDICTION_LOG", "")

    @property
    def log_directory(self) -> Path | None:
        """The directory to which events are logged; None for nowhere or an object store."""
        is_directory = self.prediction_log and "://" not in self.prediction_log
        return ROOT / Path(self.prediction_log).expanduser() if is_directory else None

    def has(self, service: str) -> bool:
        """Return whether a service is wanted; two are only where they have a destination."""
        wanted = {"publisher": self.with_fiddler, "prediction-log": bool(self.prediction_log)}
        return wanted.get(service, True)

    def url(self, port: str, path: str = "") -> str:
        """Return the address of what listens on the port named `port`."""
        return f"http://127.0.0.1:{self.ports[port]}{path}"


def load_settings(environ: Mapping[str, str] | None = None, root: Path = ROOT) -> Settings:
    """Read .env below the environment: what is set in the shell wins, and empty means unset."""
    shell = os.environ if environ is None else environ
    merged = {**read_env_file(root / ".env"), **shell}
    environment = {name: value for name, value in merged.items() if value and name != "TASK_STATUS"}
    var = Path(environment.get("STACK_VAR", root / "var")).resolve()
    return Settings(environment, _ports(environment), var)


def read_env_file(path: Path) -> dict[str, str]:
    """Return the KEY=value lines of a file as Compose reads them; none when there is no file."""
    if not path.is_file():
        return {}
    lines = (line.strip().removeprefix("export ") for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key.strip(): _unquoted(value.strip()) for key, _, value in pairs}


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote and quote in "'\"" and (end := value.find(quote, 1)) > 0:
        return value[1:end]
    return value.partition(" #")[0].rstrip()


def _ports(environment: Mapping[str, str]) -> dict[str, int]:
    ports: dict[str, int] = {}
    for name, default in PORTS.items():
        port = _port(name, environment.get(name, str(default)))
        if port in ports.values():
            other = next(key for key, value in ports.items() if value == port)
            raise StackError(
                f"{other} and {name} are both {port}: set another port for one of them in .env"
            )
        ports[name] = port
    return ports


def _port(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= 65535:  # noqa: PLR2004
        raise StackError(f"{name}={text} is not a port: it must be a number from 1 to 65535")
    return int(text)
