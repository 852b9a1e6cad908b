"""The preparations of the entrypoint before gunicorn starts."""

import errno
import os
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from serving.settings import Settings
from tests.support.machine import free_port, port_in_use
from tests.support.servers import load_script
from tools import ROOT

ENTRYPOINT = ROOT / "services" / "model" / "entrypoint.py"


@pytest.fixture(name="entrypoint", scope="module")
def _entrypoint() -> ModuleType:
    """Load the model's entrypoint by its path, because other services have one too."""
    return load_script(ENTRYPOINT)


@pytest.fixture(name="settings")
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MODEL_PREDICTION_KEYS", raising=False)
    return Settings(bundle=tmp_path / "bundle", metrics_dir=tmp_path / "metrics")


def test_wiping_removes_only_metric_files(entrypoint: ModuleType, tmp_path: Path) -> None:
    """Files that are not metric files remain, and no other file is created."""
    for name in ("counter_1.db", "gauge_livesum_http_2.db", "histogram_archive.db", "notes.txt"):
        (tmp_path / name).touch()
    entrypoint.wipe(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_directory_is_created(entrypoint: ModuleType, tmp_path: Path) -> None:
    """Missing parents are created too."""
    entrypoint.make_writable("PROMETHEUS_MULTIPROC_DIR", tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()


def test_a_file_is_no_directory(entrypoint: ModuleType, tmp_path: Path) -> None:
    """The error names the setting if its path is a file or below one."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(entrypoint.StartError, match=r"PROMETHEUS_MULTIPROC_DIR: .*writable"):
            entrypoint.make_writable("PROMETHEUS_MULTIPROC_DIR", path)


def test_a_directory_has_one_owner(entrypoint: ModuleType, tmp_path: Path) -> None:
    """The second service is rejected, with the directory's name."""
    entrypoint.lock(tmp_path)
    with pytest.raises(entrypoint.StartError, match="is in use by another service"):
        entrypoint.lock(tmp_path)


def test_a_directory_without_room_is_named(
    entrypoint: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What all workers share is allocated before the start."""

    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    with pytest.raises(entrypoint.StartError, match=r"PROMETHEUS_MULTIPROC_DIR: .*: no room"):
        entrypoint.share(tmp_path)


def test_a_port_in_use_is_named(entrypoint: ModuleType) -> None:
    """The error names the setting, the address and the reason."""
    with port_in_use() as port, pytest.raises(entrypoint.StartError) as failed:
        entrypoint.check_port("MODEL_PORT", "127.0.0.1", port)

    assert str(failed.value) == f"MODEL_PORT: port {port} of 127.0.0.1: address already in use"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_free_port_stays_free(entrypoint: ModuleType, host: str) -> None:
    """Checking a port leaves it neither bound nor in TIME_WAIT."""
    port = free_port()
    for _ in range(2):
        entrypoint.check_port("MODEL_PORT", host, port)


def test_numeric_libraries_use_one_thread_by_default(
    entrypoint: ModuleType, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A number of threads that is already set is kept."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    shared = entrypoint.environment(settings)

    assert (shared["OMP_NUM_THREADS"], shared["OPENBLAS_NUM_THREADS"]) == ("1", "4")


def test_each_start_generates_a_random_key(entrypoint: ModuleType, settings: Settings) -> None:
    """Without a configured key the workers share a random one until the next start."""
    keys = [entrypoint.environment(settings)["MODEL_PREDICTION_KEYS"] for _ in range(2)]

    assert len(set(keys)) == 2
    assert min(map(len, keys)) >= 64


def test_a_configured_key_is_kept(
    entrypoint: ModuleType, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """It is not replaced, and no warning is logged."""
    given = Settings(
        bundle=settings.bundle,
        metrics_dir=settings.metrics_dir,
        prediction_keys=SecretStr("k" * 32),
    )

    assert "MODEL_PREDICTION_KEYS" not in entrypoint.environment(given)
    assert not caplog.records


def test_gunicorn_gets_absolute_paths(
    entrypoint: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gunicorn runs in another directory than the command that started it."""
    monkeypatch.chdir(tmp_path)
    shared = entrypoint.environment(Settings(bundle=Path("b"), metrics_dir=Path("m")))

    assert shared["MODEL_BUNDLE"] == str(tmp_path / "b")
    assert shared["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "m")
