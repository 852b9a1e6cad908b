"""What the native stack writes and sets before it starts."""

import json
import os
from pathlib import Path

import pytest

from tools import ROOT
from tools.stack import programs, setup
from tools.stack.settings import Settings, StackError, load_settings, read_env_file


def _settings(directory: Path, **environment: str) -> Settings:
    return load_settings({"STACK_VAR": str(directory / "var"), **environment}, directory)


def test_targets_are_those_of_the_services_that_run(tmp_path: Path) -> None:
    """Prometheus finds each service on this machine, and none that does not run any more."""
    settings = _settings(tmp_path, MODEL_METRICS_PORT="18001")
    directory = settings.var / "prometheus" / "config" / "targets"

    setup.write_files(settings, ["model", "grafana"])
    setup.write_targets(settings, ["model", "grafana"])
    setup.write_files(settings, ["model", "prometheus"])
    assert list(directory.iterdir()) == []
    setup.write_targets(settings, ["model"])
    setup.write_targets(settings, ["model", "prometheus"])

    assert {path.stem: json.loads(path.read_text()) for path in directory.iterdir()} == {
        "model": [{"targets": ["127.0.0.1:18001"], "labels": {"job": "model"}}],
        "prometheus": [{"targets": ["127.0.0.1:9090"], "labels": {"job": "prometheus"}}],
    }


def test_the_configuration_is_the_one_of_all_stacks(tmp_path: Path) -> None:
    """Links, not copies: what is edited in prometheus/ is what runs."""
    settings = _settings(tmp_path)

    setup.write_files(settings, ["prometheus"])

    assert {
        str(path.relative_to(settings.var)): path.resolve()
        for path in settings.var.glob("*/config/*")
        if path.is_symlink()
    } == {
        "prometheus/config/prometheus.yml": ROOT / "prometheus" / "prometheus.yml",
        "prometheus/config/rules": ROOT / "prometheus" / "rules",
        "alertmanager/config/alertmanager.yml": ROOT / "prometheus" / "alertmanager.yml",
    }


def test_slack_is_configured_only_where_its_address_is_given(tmp_path: Path) -> None:
    """SLACK_WEBHOOK_FILE, relative to the checkout or absolute, changes the configuration."""
    webhook = tmp_path / "slack.secret"
    webhook.write_text("https://example.org/hook")
    settings = _settings(tmp_path, SLACK_WEBHOOK_FILE=str(webhook))

    setup.write_files(settings, ["alertmanager"])

    directory = settings.var / "alertmanager"
    assert (directory / "config" / "alertmanager.yml").resolve().name == "alertmanager.slack.yml"
    assert (directory / "secrets" / "slack_webhook_url").read_text() == webhook.read_text()


def test_a_missing_slack_file_is_named(tmp_path: Path) -> None:
    """A wrong path is reported at the start, not with the first alert."""
    settings = _settings(tmp_path, SLACK_WEBHOOK_FILE="nowhere.secret")

    with pytest.raises(StackError, match=r"^SLACK_WEBHOOK_FILE=nowhere.secret: there is no such"):
        setup.write_files(settings, ["alertmanager"])


@pytest.mark.parametrize("service", ["model", "locust", "publisher"])
def test_every_setting_can_be_overridden(service: str, tmp_path: Path) -> None:
    """What .env says of a setting is what the programs are started with."""
    keys = read_env_file(ROOT / "services" / service / "settings.env").keys()
    (tmp_path / ".env").write_text("".join(f"{key}=given-{key}\n" for key in keys))

    environment = setup.environment_for(_settings(tmp_path), {})
    assert {key: environment[key] for key in keys} == {key: f"given-{key}" for key in keys}


def test_what_a_person_sets_wins(tmp_path: Path) -> None:
    """The shell wins over the services' defaults, which hold where nothing else is set."""
    settings = _settings(tmp_path, MODEL_WORKERS="7", MODEL_PORT="18000")

    environment = setup.environment_for(settings, {"prometheus": programs.Binary("/p")})

    assert environment["MODEL_WORKERS"] == "7"
    assert environment["MODEL_LOG_LEVEL"] == "info"
    assert environment["MODEL_HOST"] == "127.0.0.1"
    assert environment["LOCUST_HOST"] == "http://127.0.0.1:18000"
    assert environment["PROMETHEUS_BINARY"] == "/p"
    assert environment["ALERTMANAGER_BINARY"] == "alertmanager"
    assert environment["MODEL_BUNDLE"] == str(settings.var / "bundle")


def test_every_address_is_of_this_machine(tmp_path: Path) -> None:
    """What a container binds to 0.0.0.0 listens on 127.0.0.1 here."""
    environment = setup.environment_for(_settings(tmp_path), {})

    addresses = {name: value for name, value in environment.items() if value == "0.0.0.0"}
    assert not addresses


def test_a_given_bundle_is_relative_to_the_checkout(tmp_path: Path) -> None:
    """.env may say MODEL_BUNDLE=var/other."""
    settings = _settings(tmp_path, MODEL_BUNDLE="var/other")

    assert setup.environment_for(settings, {})["MODEL_BUNDLE"] == str(ROOT / "var" / "other")


def test_stacks_do_not_share_their_metrics(tmp_path: Path) -> None:
    """Two checkouts on one machine count for themselves."""
    one, other = (_settings(tmp_path / name) for name in ("one", "other"))

    assert setup.metrics_directory(one) != setup.metrics_directory(other)
    assert os.fspath(one.socket) in setup.mark(one)


@pytest.mark.parametrize(
    ("given", "spools"),
    [
        ({}, {}),
        ({"FIDDLER_URL": "https://x"}, {"MODEL_SPOOL_DIR": "spool"}),
        ({"PREDICTION_LOG": "s3://x"}, {"MODEL_SPOOL_LOG_DIR": "spool/log"}),
        (
            {"FIDDLER_URL": "https://x", "PREDICTION_LOG": "s3://x"},
            {"MODEL_SPOOL_DIR": "spool", "MODEL_SPOOL_LOG_DIR": "spool/log"},
        ),
    ],
)
def test_the_model_spools_for_each_publisher_that_runs(
    tmp_path: Path, given: dict[str, str], spools: dict[str, str]
) -> None:
    """Nobody would ever empty a spool without a publisher."""
    settings = _settings(tmp_path, **given)
    environment = setup.environment_for(settings, {})

    assert {
        name: value for name, value in environment.items() if name.endswith(("POOL_DIR", "LOG_DIR"))
    } == {name: str(settings.var / path) for name, path in spools.items()}
    assert setup.wanted("publisher", settings, {}) == ("MODEL_SPOOL_DIR" in spools)
    assert setup.wanted("prediction-log", settings, {}) == ("MODEL_SPOOL_LOG_DIR" in spools)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("var/log", str(ROOT / "var" / "log")),
        ("~/log", str(Path.home() / "log")),
        ("s3://bucket/log", "s3://bucket/log"),
    ],
)
def test_a_log_is_relative_to_the_checkout(tmp_path: Path, given: str, expected: str) -> None:
    """Or in the home directory, or a URL, which stays as it is."""
    settings = _settings(tmp_path, PREDICTION_LOG=given)

    assert setup.environment_for(settings, {})["PREDICTION_LOG"] == expected
