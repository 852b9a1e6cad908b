"""What cannot start says why in one line, and exits with an error."""

import hashlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bundles import edit_manifest
from tests.support.machine import free_port
from tests.support.model import SERVICE
from tests.support.processes import environment

SHORT_KEY = "not-thirty-two-bytes"


@pytest.fixture(name="taken")
def _taken() -> Iterator[str]:
    """Return a port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield str(listener.getsockname()[1])


@pytest.fixture(name="settings")
def _settings(example_bundle: Path, tmp_path: Path) -> dict[str, str]:
    """Return settings that a service would start with."""
    return {
        "MODEL_BUNDLE": str(example_bundle),
        "MODEL_PORT": str(free_port()),
        "MODEL_METRICS_PORT": str(free_port()),
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
    }


@pytest.fixture(name="bundle")
def _bundle(example_bundle: Path, tmp_path: Path) -> Path:
    """Return a copy of the bundle, to be spoiled."""
    return Path(shutil.copytree(example_bundle, tmp_path / "bundle"))


def failure(settings: dict[str, str]) -> str:
    """Start the service, which must fail; return its one line."""
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
def test_a_port_in_use(settings: dict[str, str], taken: str, variable: str) -> None:
    """Each of the two, by its setting."""
    line = failure(settings | {variable: taken})

    assert line == f"model: {variable}: port {taken} of 127.0.0.1: address already in use"


def test_one_port_for_both(settings: dict[str, str]) -> None:
    """Neither is in use, and still they cannot be one."""
    line = failure(settings | {"MODEL_METRICS_PORT": settings["MODEL_PORT"]})

    assert line.startswith("model: MODEL_METRICS_PORT: ")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "192.0.2.1", "not a host"])
def test_a_host_that_is_not_ours(settings: dict[str, str], host: str) -> None:
    """An address of nobody, or of somebody else."""
    assert failure(settings | {"MODEL_HOST": host}).startswith("model: MODEL_PORT: port")


def test_a_missing_bundle(settings: dict[str, str], tmp_path: Path) -> None:
    """No such directory."""
    line = failure(settings | {"MODEL_BUNDLE": str(tmp_path / "nowhere")})

    assert line.startswith(f"model: no bundle at {tmp_path / 'nowhere'}: ")


def test_no_bundle_at_all(settings: dict[str, str]) -> None:
    """The one setting that has no default, missing or empty."""
    for given in ({"MODEL_BUNDLE": ""}, {}):
        others = {name: value for name, value in settings.items() if name != "MODEL_BUNDLE"}

        assert failure(others | given) == "model: MODEL_BUNDLE: Field required"


@pytest.mark.parametrize("name", ["bundle.json", "model.joblib", "trees.npy"])
def test_a_corrupt_bundle(settings: dict[str, str], bundle: Path, name: str) -> None:
    """Half of a file."""
    path = bundle / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    line = failure(settings | {"MODEL_BUNDLE": str(bundle)})

    assert name in line


@pytest.mark.parametrize("name", ["bundle.json", "model.joblib", "trees.npy"])
def test_an_incomplete_bundle(settings: dict[str, str], bundle: Path, name: str) -> None:
    """A file is missing."""
    (bundle / name).unlink()

    assert name in failure(settings | {"MODEL_BUNDLE": str(bundle)})


def test_a_bundle_of_another_format(settings: dict[str, str], bundle: Path) -> None:
    """It says which one, and which it should be."""
    edit_manifest(bundle, format=2)

    assert "format 2" in failure(settings | {"MODEL_BUNDLE": str(bundle)})


def test_an_unwritable_metrics_directory(settings: dict[str, str], tmp_path: Path) -> None:
    """Below a file there is no directory, not even for root."""
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
def test_a_bad_setting(settings: dict[str, str], variable: str, value: str) -> None:
    """Named, with what would be right."""
    assert failure(settings | {variable: value}).startswith(f"model: {variable}: ")


def test_a_short_key_is_not_printed(settings: dict[str, str]) -> None:
    """Too short a secret is a secret all the same."""
    line = failure(settings | {"MODEL_PREDICTION_KEYS": SHORT_KEY})

    assert line.startswith("model: MODEL_PREDICTION_KEYS: ")
    assert "32 bytes" in line
    assert SHORT_KEY not in line


def test_an_estimator_that_does_not_load_is_named_in_one_line(
    settings: dict[str, str], bundle: Path
) -> None:
    """Its hash is right, its content is not: the service does not start."""
    content = b"not an estimator"
    (bundle / "model.joblib").write_bytes(content)
    edit_manifest(bundle, files={"model.joblib": hashlib.sha256(content).hexdigest()})

    assert "model.joblib does not load" in failure(settings | {"MODEL_BUNDLE": str(bundle)})
