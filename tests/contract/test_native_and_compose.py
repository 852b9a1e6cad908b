"""Both stacks are one stack: services, ports, configuration and settings agree."""

import configparser
import re
from typing import Any

import pytest
import yaml

from tools import ROOT
from tools.stack.services import REPORT, SERVICES, Service
from tools.stack.settings import PORTS, read_env_file

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
NAMES = [service.name for service in SERVICES]

# Flags that differ between a process and a container: where things are.
PLACES = (
    "--config.file",
    "--storage.path",
    "--storage.tsdb.path",
    "--web.console.templates",
    "--web.listen-address",
)


def _programs() -> dict[str, str]:
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "native" / "supervisord.conf")
    return {
        section.partition(":")[2]: parser[section]["command"]
        for section in parser.sections()
        if section.startswith("program:")
    }


def _flags(command: str) -> dict[str, str]:
    """Return a command's flags that are no places, each port as the variable that holds it."""
    text = re.sub(r"%\(ENV_(\w+)\)s|\$\{(\w+):[^}]*\}", r"<\1\2>", command)
    flags = dict(re.findall(r"(--[\w.-]+)=(\S*)", text))
    return {name: value for name, value in flags.items() if name not in PLACES}


def test_supervisord_runs_what_compose_runs() -> None:
    """One name per service, in both; the report takes Grafana's place where there is none."""
    assert set(_programs()) - {REPORT.name} == set(NAMES) == {*COMPOSE["services"]}


@pytest.mark.parametrize("name", ["prometheus", "alertmanager"])
def test_flags_agree(name: str) -> None:
    """Prometheus and Alertmanager do the same in both stacks."""
    container = " ".join(COMPOSE["services"][name]["command"])

    assert _flags(_programs()[name]) == _flags(container)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_compose_publishes_the_same_ports(service: Service) -> None:
    """Each port is 127.0.0.1's, has the contract's default, and the same variable changes it."""
    published = [str(port) for port in COMPOSE["services"][service.name]["ports"]]

    assert sorted(published) == sorted(
        f"127.0.0.1:${{{variable}:-{PORTS[variable]}}}:{PORTS[variable]}"
        for variable in service.ports
    )


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_prometheus_finds_the_same_jobs(service: Service) -> None:
    """prometheus/ has the job that the native stack generates, on the contract's port."""
    directories = ("targets", "optional/*")
    (file,) = (
        file
        for directory in directories
        for file in ROOT.glob(f"prometheus/{directory}/{service.name}.yml")
    )

    assert yaml.safe_load(file.read_text()) == [
        {
            "targets": [f"{service.name}:{PORTS[service.metrics_port]}"],
            "labels": {"job": service.name},
        }
    ]


def test_grafana_stays_off_the_internet_in_both() -> None:
    """native/grafana.env and compose.yaml agree."""
    container = COMPOSE["services"]["grafana"]["environment"]

    constants = {name: value for name, value in container.items() if "$" not in value}
    ours = read_env_file(ROOT / "native" / "grafana.env")
    assert ours == {
        name: value
        for name, value in constants.items()
        if name.startswith("GF_") and not name.endswith("_PATH")
    }


def test_the_example_of_env_names_every_port() -> None:
    """.env.example lists each variable with the contract's default."""
    example = dict(
        re.findall(r"^#(\w+_PORT)=(\d+)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    )

    assert {name: str(port) for name, port in PORTS.items()}.items() <= example.items()


def test_stop_times_agree() -> None:
    """The model has the same time to finish its requests in both stacks."""
    parser = configparser.RawConfigParser()
    parser.read(ROOT / "native" / "supervisord.conf")
    ours = {name: parser[f"program:{name}"].get("stopwaitsecs", "10") for name in NAMES}

    theirs = {name: COMPOSE["services"][name].get("stop_grace_period", "10s") for name in NAMES}
    assert {name: f"{seconds}s" for name, seconds in ours.items()} == theirs


@pytest.mark.parametrize(
    ("secret", "owners"),
    [
        ("MODEL_PREDICTION_KEYS", {"model"}),
        ("FIDDLER_AUTH_TOKEN", {"publisher"}),
        ("AWS_SECRET_ACCESS_KEY", {"prediction-log"}),
        ("AWS_SESSION_TOKEN", {"prediction-log"}),
        ("GF_SECURITY_ADMIN_PASSWORD", {"grafana"}),
    ],
)
def test_a_secret_reaches_the_program_that_needs_it(secret: str, owners: set[str]) -> None:
    """`env -u` takes it from every other one; Compose gives it to its service only."""
    programs = {name for name, command in _programs().items() if f"-u {secret}" not in command}
    services = {
        name
        for name, service in COMPOSE["services"].items()
        if secret in service.get("environment", {})
    }

    assert programs == services == owners
