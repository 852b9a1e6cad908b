"""The settings of the traffic, and the file that sets them."""

import re
import subprocess
import sys
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.settings_files import bare_settings
from tools import ROOT
from traffic.errors import TrafficError
from traffic.settings import Settings, read_settings, variable

SERVICE = ROOT / "services" / "locust"


def _locusts_own() -> set[str]:
    spec = find_spec("locust")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "argument_parser.py").read_text()
    return set(re.findall(r'env_var="(LOCUST_\w+)"', source))


BUNDLE = {"LOCUST_BUNDLE": "somewhere"}


def test_only_the_bundle_is_required() -> None:
    """All other settings have a default, and an empty variable counts as unset."""
    assert Settings("somewhere") == read_settings(BUNDLE)
    assert Settings("somewhere") == read_settings(BUNDLE | {"LOCUST_SEED": ""})


def test_the_bundle_defaults_to_the_models() -> None:
    """LOCUST_BUNDLE precedes MODEL_BUNDLE; without either the error is one line."""
    assert read_settings({"MODEL_BUNDLE": "a"}).bundle == "a"
    assert read_settings({"MODEL_BUNDLE": "a", "LOCUST_BUNDLE": "b"}).bundle == "b"
    with pytest.raises(TrafficError, match=r"^LOCUST_BUNDLE: must be set to the directory"):
        read_settings({})


def test_every_setting_is_read() -> None:
    """Each field is read from its variable with its type."""
    environment = {
        "LOCUST_BUNDLE": "somewhere",
        "LOCUST_SCENARIO": "malformed",
        "LOCUST_ROWS": "gradual",
        "LOCUST_GRADUAL_SECONDS": "60",
        "LOCUST_REQUESTS_PER_SECOND_PER_USER": "0.5",
        "LOCUST_SEED": "-7",
        "LOCUST_LABEL_SHARE": "0.25",
        "LOCUST_LABEL_DELAY_SECONDS": "0",
        "LOCUST_LABEL_SHIFT": "-1",
        "LOCUST_METRICS_HOST": "0.0.0.0",
        "LOCUST_METRICS_PORT": "19646",
    }
    expected = Settings(
        "somewhere", "malformed", "gradual", 60.0, 0.5, -7, 0.25, 0.0, -1.0, "0.0.0.0", 19646
    )

    assert environment.keys() == {variable(field.name) for field in fields(Settings)}
    assert expected == read_settings(environment)


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("LOCUST_SCENARIO", "stedy", "none of steady, malformed"),
        ("LOCUST_GRADUAL_SECONDS", "0", "not a number of at least 1"),
        ("LOCUST_REQUESTS_PER_SECOND_PER_USER", "-1", "not a number of at least 0"),
        ("LOCUST_REQUESTS_PER_SECOND_PER_USER", "inf", "not a number of at least 0"),
        ("LOCUST_SEED", "1.5", "not a whole number"),
        ("LOCUST_LABEL_SHARE", "1.1", "not a number of at least 0 and at most 1"),
        ("LOCUST_LABEL_SHARE", "half", "not a number of at least 0 and at most 1"),
        ("LOCUST_LABEL_DELAY_SECONDS", "nan", "not a number of at least 0"),
        ("LOCUST_LABEL_SHIFT", "nan", "not a number"),
        ("LOCUST_METRICS_PORT", "0", "not a whole number of at least 1 and at most 65535"),
        ("LOCUST_METRICS_PORT", "tcp://10.0.0.1:9646", "not a whole number of at least 1 and"),
    ],
)
def test_the_error_of_an_invalid_setting_is_one_line(name: str, text: str, wanted: str) -> None:
    """It contains the variable, its value and the allowed values."""
    with pytest.raises(TrafficError, match=f"^{name}: '{re.escape(text)}' is {wanted}") as error:
        read_settings(BUNDLE | {name: text})

    assert "\n" not in str(error.value)


def test_the_settings_file_sets_only_existing_settings() -> None:
    """Each line is bare and sets a setting of locust or of the traffic."""
    known = _locusts_own() | {variable(field.name) for field in fields(Settings)}
    settings = bare_settings(SERVICE / "settings.env")

    assert settings.keys() <= known
    read_settings(BUNDLE | settings)


def test_the_settings_file_sets_no_address() -> None:
    """Addresses differ between containers and plain processes."""
    names = bare_settings(SERVICE / "settings.env")

    assert not [name for name in names if re.search(r"METRICS|WEB|BIND", name)]


def test_all_settings_can_be_listed() -> None:
    """`python -m traffic.settings` prints each variable, without importing locust."""
    done = subprocess.run(
        [sys.executable, "-m", "traffic.settings"],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(SERVICE)},
        text=True,
    )
    listed = [line.split()[0] for line in done.stdout.splitlines()]

    assert [variable(field.name) for field in fields(Settings)] == listed


def test_the_package_does_not_import_locust() -> None:
    """Only the locustfile does, because importing locust patches the standard library."""
    code = (
        "import sys, traffic.client, traffic.exporter\n"
        "assert not {'locust', 'gevent'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(SERVICE)})
