"""Every setting is validated; an error is one line that names it and contains no secret."""

import subprocess
import sys
from pathlib import Path

import pytest

from serving.settings import Settings, SettingsError, read_settings, split_keys, variable
from tests.support.settings_files import bare_settings
from tools import ROOT

SERVICE = ROOT / "services" / "model"
KEYS = ("first-key-of-thirty-two-bytes-or-more", "second-key-of-thirty-two-bytes-or-more")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set only the required variables, whatever the developer's shell has."""
    for name in Settings.model_fields:
        monkeypatch.delenv(variable(name), raising=False)
    monkeypatch.setenv("MODEL_BUNDLE", "/some/bundle")
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/some/metrics")


def failure() -> str:
    """Return the one-line error for the environment."""
    with pytest.raises(SettingsError) as failed:
        read_settings()
    assert failed.value.__cause__ is None
    assert len(str(failed.value).splitlines()) == 1
    return str(failed.value)


def test_the_defaults_are_those_of_the_contract() -> None:
    """Ports, address, workers and limits have the documented defaults."""
    settings = read_settings()

    assert (settings.host, settings.port, settings.metrics_port) == ("127.0.0.1", 8000, 8001)
    assert (settings.workers, settings.graceful_timeout) == (2, 30)
    assert settings.max_body_bytes == 2_000_000
    assert settings.bundle == Path("/some/bundle")
    assert settings.metrics_dir == Path("/some/metrics")
    assert split_keys(settings.prediction_keys) == []


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose passes variables that .env omits as empty ones."""
    monkeypatch.setenv("MODEL_PORT", "")
    monkeypatch.setenv("MODEL_PREDICTION_KEYS", "")

    assert read_settings().port == 8000


@pytest.mark.parametrize("name", ["MODEL_BUNDLE", "PROMETHEUS_MULTIPROC_DIR"])
@pytest.mark.parametrize("value", [None, ""], ids=["unset", "empty"])
def test_a_missing_required_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    """The error names the variable."""
    monkeypatch.delenv(name) if value is None else monkeypatch.setenv(name, value)

    assert failure() == f"{name}: Field required"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("MODEL_PORT", ("http", "0", "65536", "-1", "80.5", "8000 8001")),
        ("MODEL_METRICS_PORT", ("x", "0", "65536", "8000")),
        ("MODEL_WORKERS", ("0", "257", "two")),
        ("MODEL_GRACEFUL_TIMEOUT", ("0", "-1", "1s")),
        ("MODEL_MAX_BODY_BYTES", ("0", "1023", "2MB")),
        ("MODEL_LOG_LEVEL", ("loud", "INFO ")),
        ("MODEL_LOG_FORMAT", ("xml",)),
    ],
)
def test_an_invalid_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, values: tuple[str, ...]
) -> None:
    """The error names the variable."""
    for value in values:
        monkeypatch.setenv(name, value)

        assert failure().startswith(f"{name}: ")


def test_keys_are_split_and_trimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first key signs; spaces and empty items are ignored."""
    monkeypatch.setenv("MODEL_PREDICTION_KEYS", f" {KEYS[0]} ,, {KEYS[1]},")

    assert split_keys(read_settings().prediction_keys) == [key.encode() for key in KEYS]


@pytest.mark.parametrize("keys", ["short", f"{KEYS[0]},short", "x" * 31])
def test_a_short_key_is_rejected_without_printing_it(
    monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    """The error contains neither the short key nor the others."""
    monkeypatch.setenv("MODEL_PREDICTION_KEYS", keys)

    message = failure()
    assert message.startswith("MODEL_PREDICTION_KEYS: ")
    assert not any(key in message for key in keys.split(","))


def test_settings_never_print_their_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """repr, str and JSON mask them."""
    monkeypatch.setenv("MODEL_PREDICTION_KEYS", KEYS[0])
    settings = read_settings()

    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert KEYS[0] not in text


def test_all_settings_can_be_listed() -> None:
    """`python -m serving.settings` prints each variable with its description."""
    listed = subprocess.run(
        [sys.executable, "-m", "serving.settings"],
        cwd=SERVICE,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()

    assert [line.split()[0] for line in listed] == [variable(n) for n in Settings.model_fields]
    assert all(field.description for field in Settings.model_fields.values())


def test_settings_env_sets_only_existing_settings() -> None:
    """It has bare KEY=value lines and no secret."""
    settings = bare_settings(SERVICE / "settings.env")

    assert settings.keys() <= {variable(name) for name in Settings.model_fields}
    assert "MODEL_PREDICTION_KEYS" not in settings


def test_the_spool_may_have_several_readers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a directory of its own."""
    monkeypatch.setenv("MODEL_SPOOL_LOG_DIR", "/spool/log")
    assert read_settings().spool_dirs == (Path("/spool/log"),)
    monkeypatch.setenv("MODEL_SPOOL_DIR", "/spool")
    assert read_settings().spool_dirs == (Path("/spool"), Path("/spool/log"))
    monkeypatch.setenv("MODEL_SPOOL_DIR", "/spool/log/../log")
    assert failure() == "MODEL_SPOOL_LOG_DIR: Value error, must differ from MODEL_SPOOL_DIR"


def test_excluded_features_are_comma_separated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces around a name do not belong to it."""
    monkeypatch.setenv("MODEL_SPOOL_EXCLUDE", "age, body mass index,")

    assert read_settings().spool_exclude == {"age", "body mass index"}
