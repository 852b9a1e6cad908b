"""If the service cannot start, it prints one line with the reason and exits with an error."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bundles import edit_manifest
from tests.support.machine import free_port, port_in_use
from tests.support.model import SERVICE
from tests.support.processes import environment

SHORT_KEY = "not-thirty-two-bytes"


@pytest.fixture(name="settings")
def _settings(example_bundle: Path, tmp_path: Path) -> dict[str, str]:
    """Return settings with which a service starts."""
    return {
        "MODEL_BUNDLE": str(example_bundle),
        "MODEL_PORT": str(free_port()),
        "MODEL_METRICS_PORT": str(free_port()),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }


@pytest.fixture(name="bundle")
def _bundle(example_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle, which a test may damage."""
    return Path(shutil.copytree(example_bundle, tmp_path / "bundle"))


def failure(settings: dict[str, str]) -> str:
    """Start the service, which must fail, and return its one line."""
    started = subprocess.run(
        [sys.executable, "entrypoint.py"],
        cwd=SERVICE,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 1
    assert started.stdout == ""
    (line,) = started.stderr.splitlines()
    assert line.startswith("model: ")
    return line


@pytest.mark.parametrize("variable", ["MODEL_PORT", "MODEL_METRICS_PORT"])
def test_a_port_in_use_is_named(settings: dict[str, str], variable: str) -> None:
    """The line names the setting of the port."""
    with port_in_use() as port:
        line = failure(settings | {variable: str(port)})

    assert line == f"model: {variable}: port {port} of 127.0.0.1: address already in use"


def test_equal_ports_are_rejected(settings: dict[str, str]) -> None:
    """The API and the metrics need different ports, even if neither is in use."""
    line = failure(settings | {"MODEL_METRICS_PORT": settings["MODEL_PORT"]})

    assert line.startswith("model: MODEL_METRICS_PORT: ")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "not a host"])
def test_a_host_of_another_machine_is_rejected(settings: dict[str, str], host: str) -> None:
    """The address does not exist, or is not one of this machine."""
    assert failure(settings | {"MODEL_HOST": host}).startswith("model: MODEL_PORT: port")


def test_a_missing_bundle_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    """The line contains the directory that does not exist."""
    line = failure(settings | {"MODEL_BUNDLE": str(tmp_path / "nowhere")})

    assert line.startswith(f"model: no bundle at {tmp_path / 'nowhere'}: ")


def test_an_unset_bundle_is_named(settings: dict[str, str]) -> None:
    """MODEL_BUNDLE has no default and may be neither missing nor empty."""
    for given in ({"MODEL_BUNDLE": ""}, {}):
        others = {name: value for name, value in settings.items() if name != "MODEL_BUNDLE"}

        assert failure(others | given) == "model: MODEL_BUNDLE: Field required"


@pytest.mark.parametrize("name", ["bundle.json", "model.joblib", "trees.npy"])
def test_a_corrupt_bundle_is_rejected(settings: dict[str, str], bundle: Path, name: str) -> None:
    """The line names the file of which half is missing."""
    path = bundle / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    line = failure(settings | {"MODEL_BUNDLE": str(bundle)})

    assert name in line


@pytest.mark.parametrize("name", ["bundle.json", "model.joblib", "trees.npy"])
def test_an_incomplete_bundle_is_rejected(
    settings: dict[str, str], bundle: Path, name: str
) -> None:
    """The line names the missing file."""
    (bundle / name).unlink()

    assert name in failure(settings | {"MODEL_BUNDLE": str(bundle)})


def test_a_bundle_of_another_format_is_rejected(settings: dict[str, str], bundle: Path) -> None:
    """The line contains the format."""
    edit_manifest(bundle, format=3)

    assert "format 3" in failure(settings | {"MODEL_BUNDLE": str(bundle)})


def test_an_unwritable_metrics_directory_is_named(settings: dict[str, str], tmp_path: Path) -> None:
    """Not even root can create a directory below a file."""
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/metrics")):
        line = failure(settings | {"PROMETHEUS_MULTIPROC_DIR": str(directory)})

        assert line.startswith(f"model: PROMETHEUS_MULTIPROC_DIR: {directory} is not a writable")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL_PORT", "http"),
        ("MODEL_PORT", "0"),
        ("MODEL_METRICS_PORT", "65536"),
        ("MODEL_WORKERS", "0"),
        ("MODEL_WORKERS", "many"),
        ("MODEL_GRACEFUL_TIMEOUT", "-1"),
        ("MODEL_MAX_BODY_BYTES", "1"),
        ("MODEL_LOG_LEVEL", "loud"),
        ("MODEL_LOG_FORMAT", "xml"),
    ],
)
def test_an_invalid_setting_is_named(settings: dict[str, str], variable: str, value: str) -> None:
    """The line begins with the variable."""
    assert failure(settings | {variable: value}).startswith(f"model: {variable}: ")


def test_a_short_key_is_not_printed(settings: dict[str, str]) -> None:
    """The line contains the minimum length, but not the key."""
    line = failure(settings | {"MODEL_PREDICTION_KEYS": SHORT_KEY})

    assert line.startswith("model: MODEL_PREDICTION_KEYS: ")
    assert "32 bytes" in line
    assert SHORT_KEY not in line


def test_an_estimator_that_does_not_load_is_rejected(
    settings: dict[str, str], bundle: Path
) -> None:
    """Its hash is correct but not its content; the line names the file."""
    content = b"not an estimator"
    (bundle / "model.joblib").write_bytes(content)
    edit_manifest(bundle, files={"model.joblib": hashlib.sha256(content).hexdigest()})

    assert "model.joblib does not load" in failure(settings | {"MODEL_BUNDLE": str(bundle)})
