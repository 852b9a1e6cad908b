"""Check everything a start needs, report a fault in one line, and become gunicorn."""

import logging
import logging.config
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path

from bundle.load import BundleError, load_bundle
from bundle.manifest import Manifest
from serving.logs import logging_config
from serving.metrics.repeats import REPEATS_FILE
from serving.settings import Settings, SettingsError, read_settings, split_keys
from serving.spool import place_reference

HERE = Path(__file__).parent
# Threads of several workers compete for the cores: two workers on two cores serve half as much.
THREAD_COUNTS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

log = logging.getLogger("entrypoint")


class StartError(Exception):
    """The service cannot start; the message is one line."""


def main() -> None:
    """Check, prepare, and replace this process with gunicorn."""
    try:
        settings = read_settings()
        manifest = load_bundle(settings.bundle).manifest
        wipe(settings.metrics_dir)
        if settings.spool_dir is not None:
            make_writable("MODEL_SPOOL_DIR", settings.spool_dir)
            place(settings.spool_dir, settings.bundle, manifest)
        check_port("MODEL_PORT", settings.host, settings.port)
        check_port("MODEL_METRICS_PORT", settings.host, settings.metrics_port)
    except (SettingsError, BundleError, StartError) as error:
        sys.exit(f"model: {error}")
    logging.config.dictConfig(logging_config(settings.log_level, settings.log_format))
    os.environ.update(environment(settings))
    os.chdir(HERE)
    os.execv(  # noqa: S606 without a shell
        sys.executable, [sys.executable, "-m", "gunicorn", "serving.app:create_app()"]
    )


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that all workers share, in addition to those given."""
    shared = {name: os.environ.get(name, "1") for name in THREAD_COUNTS}
    shared["MODEL_BUNDLE"] = str(settings.bundle.resolve())
    shared["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_dir.resolve())
    if settings.spool_dir is not None:
        shared["MODEL_SPOOL_DIR"] = str(settings.spool_dir.resolve())
    if not split_keys(settings.prediction_keys):
        log.warning(
            "MODEL_PREDICTION_KEYS is not set: labels sent after a restart will be rejected"
        )
        shared["MODEL_PREDICTION_KEYS"] = secrets.token_hex(32)
    return shared


def wipe(directory: Path) -> None:
    """Create an empty metrics directory; a new worker would continue the counts of its pid's file.

    Only metric files are removed. Raises StartError.
    """
    make_writable("PROMETHEUS_MULTIPROC_DIR", directory)
    for path in (*directory.glob("*.db"), directory / REPEATS_FILE):
        path.unlink(missing_ok=True)


def make_writable(variable: str, directory: Path) -> None:
    """Create a directory, unless it exists. Raises StartError if it is not writable."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise StartError(
            f"{variable}: {directory} is not a writable directory: {error.strerror}"
        ) from error


def place(spool: Path, bundle: Path, manifest: Manifest) -> None:
    """Copy the training rows to the spool for its readers. Raises StartError."""
    try:
        place_reference(spool, bundle, manifest)
    except OSError as error:
        raise StartError(f"MODEL_SPOOL_DIR: {spool}: {error.strerror}") from error


def check_port(variable: str, host: str, port: int) -> None:
    """Raise StartError if `port` cannot be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise StartError(f"{variable}: port {port} of {host}: {reason}") from error


if __name__ == "__main__":
    main()
