"""Settings and the stop of the publisher."""

import os
import signal
from pathlib import Path

import pytest

from publisher.errors import InterruptedByStop
from publisher.settings import FiddlerSettings, Settings, SettingsError, read_settings
from publisher.stop import Stop

TOKEN = "a-very-secret-token"  # noqa: S105 not a real one
REQUIRED = {
    "FIDDLER_URL": "https://example.fiddler.ai",
    "FIDDLER_ORG_ID": "tests",
    "FIDDLER_AUTH_TOKEN": TOKEN,
    "MODEL_SPOOL_DIR": "spool",
}


@pytest.fixture(name="environment", autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith(("FIDDLER_", "MODEL_", "PUBLISHER_", "REQUESTS_", "SSL_")):
            monkeypatch.delenv(name)
    for name, value in REQUIRED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def read_all() -> None:
    """Read every setting as the publisher does."""
    read_settings(Settings)
    read_settings(FiddlerSettings)


def test_settings_come_from_the_environment() -> None:
    """Four variables are enough, and the token does not appear in the representation."""
    fiddler = read_settings(FiddlerSettings)

    assert fiddler.fiddler_url == "https://example.fiddler.ai"
    assert read_settings(Settings).model_spool_dir == Path("spool")
    assert TOKEN not in repr(fiddler)


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    """The error for a missing setting is one line that names it."""
    environment.delenv(name)

    with pytest.raises(SettingsError) as error:
        read_all()

    assert str(error.value) == f"{name}: Field required"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("FIDDLER_URL", "example.fiddler.ai", "not a URL"),
        ("FIDDLER_URL", "https://example.org/fiddler", "must not have a path"),
        ("FIDDLER_TIMEOUT", "0", "greater than 0"),
        ("PUBLISHER_METRICS_PORT", "99999", "less than or equal to 65535"),
        ("PUBLISHER_LOG_LEVEL", TOKEN, "should match"),
        ("PUBLISHER_PEERS", "publisher-peers", "should match"),
        ("PUBLISHER_DESTINATION", "a.module", "should match"),
        ("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem", "/nowhere/ca.pem does not exist"),
    ],
)
def test_an_invalid_setting_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    """The error for an invalid setting omits its value, which may be a secret."""
    environment.setenv(name, value)

    with pytest.raises(SettingsError) as error:
        read_all()

    assert str(error.value).startswith(f"{name}: ")
    assert reason in str(error.value)
    assert TOKEN not in str(error.value)


def test_certificate_authorities_come_from_the_usual_variables(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without one of them, the built-in authorities are used."""
    assert read_settings(FiddlerSettings).verify is True
    (tmp_path / "ca.pem").touch()

    environment.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))

    assert read_settings(FiddlerSettings).verify == str(tmp_path / "ca.pem")


def test_a_stop_interrupts_only_interruptible_code() -> None:
    """A signal interrupts a marked block at once, and other code before its next marked block."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        stop = Stop()
        stop.install()
        with pytest.raises(InterruptedByStop), stop.interruptible():
            signal.raise_signal(signal.SIGTERM)

        stop = Stop()
        stop.install()
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(InterruptedByStop), stop.interruptible():
            pytest.fail("the block was entered after a stop")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
