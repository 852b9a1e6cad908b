"""What is prepared before gunicorn starts."""

import importlib.util
import socket
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from pydantic import SecretStr

from serving.settings import Settings
from tests.support.machine import free_port
from tools import ROOT

ENTRYPOINT = ROOT / "services" / "model" / "entrypoint.py"


@pytest.fixture(name="entrypoint", scope="module")
def _entrypoint() -> ModuleType:
    """Load the model's entrypoint by its path: other services have one, too."""
    spec = importlib.util.spec_from_file_location("model_entrypoint", ENTRYPOINT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="settings")
def _settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("MODEL_PREDICTION_KEYS", raising=False)
    return Settings(bundle=tmp_path / "bundle", metrics_dir=tmp_path / "metrics")


@pytest.fixture(name="taken")
def _taken() -> Iterator[int]:
    """Return a port that somebody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_wiping_leaves_no_metric_file(entrypoint: ModuleType, tmp_path: Path) -> None:
    """Nor any of its own; what is not a metric file stays."""
    for name in ("counter_1.db", "gauge_livesum_http_2.db", "histogram_archive.db", "notes.txt"):
        (tmp_path / name).touch()
    entrypoint.wipe(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_wiping_makes_the_directory(entrypoint: ModuleType, tmp_path: Path) -> None:
    """With its parents."""
    entrypoint.wipe(tmp_path / "a" / "b")

    assert (tmp_path / "a" / "b").is_dir()


def test_what_is_no_directory_cannot_be_wiped(entrypoint: ModuleType, tmp_path: Path) -> None:
    """Nor what lies below a file; the message names the setting."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(entrypoint.StartError, match=r"PROMETHEUS_MULTIPROC_DIR: .*writable"):
            entrypoint.wipe(path)


def test_a_port_in_use_is_named(entrypoint: ModuleType, taken: int) -> None:
    """With the setting and the reason."""
    with pytest.raises(entrypoint.StartError) as failed:
        entrypoint.check_port("MODEL_PORT", "127.0.0.1", taken)

    assert str(failed.value) == f"MODEL_PORT: port {taken} of 127.0.0.1: address already in use"


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "localhost"])
def test_a_free_port_stays_free(entrypoint: ModuleType, host: str) -> None:
    """Asking does not take it, nor leave it waiting."""
    port = free_port()
    for _ in range(2):
        entrypoint.check_port("MODEL_PORT", host, port)


def test_threads_do_not_fight_for_cores(
    entrypoint: ModuleType, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One a worker, unless somebody knows better."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "4")
    shared = entrypoint.environment(settings)

    assert (shared["OMP_NUM_THREADS"], shared["OPENBLAS_NUM_THREADS"]) == ("1", "4")


def test_workers_share_a_random_key(entrypoint: ModuleType, settings: Settings) -> None:
    """Without a configured one: ids of one worker are read by the others, until the next start."""
    keys = [entrypoint.environment(settings)["MODEL_PREDICTION_KEYS"] for _ in range(2)]

    assert len(set(keys)) == 2
    assert min(map(len, keys)) >= 64


def test_a_configured_key_is_kept(
    entrypoint: ModuleType, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing replaces it, and nothing warns."""
    given = Settings(
        bundle=settings.bundle,
        metrics_dir=settings.metrics_dir,
        prediction_keys=SecretStr("k" * 32),
    )

    assert "MODEL_PREDICTION_KEYS" not in entrypoint.environment(given)
    assert not caplog.records


def test_paths_are_absolute_for_gunicorn(
    entrypoint: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs in another directory than the command that started it."""
    monkeypatch.chdir(tmp_path)
    shared = entrypoint.environment(Settings(bundle=Path("b"), metrics_dir=Path("m")))

    assert shared["MODEL_BUNDLE"] == str(tmp_path / "b")
    assert shared["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "m")
