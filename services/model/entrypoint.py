"""Check everything a start needs, report a fault in one line, and become gunicorn."""

import fcntl
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
from serving import logs
from serving.metrics.repeats import REPEATS_FILE, map_memory
from serving.seen_ids import SEEN_FILE, SeenIds
from serving.settings import Settings, SettingsError, read_settings, split_keys, variable
from serving.spool import check_excluded
from serving.spool_readers import check_links, place_reference

HERE = Path(__file__).parent
LOCK_FILE = "lock"
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
        # Nothing is changed before it is certain that no other service uses it.
        check_port("MODEL_PORT", settings.host, settings.port)
        check_port("MODEL_METRICS_PORT", settings.host, settings.metrics_port)
        make_writable("PROMETHEUS_MULTIPROC_DIR", settings.metrics_dir)
        lock(settings.metrics_dir)
        wipe(settings.metrics_dir)
        share(settings.metrics_dir)
        prepare_spool(settings, manifest)
    except (SettingsError, BundleError, StartError) as error:
        sys.exit(f"model: {error}")
    logging.config.dictConfig(logs.logging_config(settings.log_level, settings.log_format))
    os.environ.update(environment(settings))
    os.chdir(HERE)
    logs.flush()
    os.execv(  # noqa: S606 without a shell
        sys.executable, [sys.executable, "-m", "gunicorn", "serving.app:create_app()"]
    )


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that all workers share, in addition to those given."""
    shared = {name: os.environ.get(name, "1") for name in THREAD_COUNTS}
    # The name, not what it stands for now: a reload reads it again.
    shared["MODEL_BUNDLE"] = str(settings.bundle.absolute())
    shared["PROMETHEUS_MULTIPROC_DIR"] = str(settings.metrics_dir.resolve())
    for name in ("spool_dir", "spool_log_dir"):
        if directory := getattr(settings, name):
            shared[variable(name)] = str(directory.resolve())
    if not split_keys(settings.prediction_keys):
        log.warning(
            "MODEL_PREDICTION_KEYS is not set: labels sent after a restart will be rejected"
        )
        shared["MODEL_PREDICTION_KEYS"] = secrets.token_hex(32)
    return shared


def lock(directory: Path) -> None:
    """Keep the directory for this service, for as long as one of its processes lives.

    The lock belongs to a descriptor that gunicorn and its workers inherit. Raises StartError.
    """
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise StartError(
            f"PROMETHEUS_MULTIPROC_DIR: {directory} is in use by another service"
        ) from error
    os.set_inheritable(descriptor, True)  # noqa: FBT003


def wipe(directory: Path) -> None:
    """Empty a metrics directory; a new worker would continue the counts of its pid's file.

    Only our own files are removed.
    """
    shared = (directory / name for name in (REPEATS_FILE, SEEN_FILE))
    for path in (*directory.glob("*.db"), *directory.glob("*.new"), *shared):
        path.unlink(missing_ok=True)


def share(directory: Path) -> None:
    """Allocate what the workers share, while an error can still be reported. Raises StartError."""
    try:
        map_memory(directory)
        SeenIds(directory)
    except OSError as error:
        raise StartError(f"PROMETHEUS_MULTIPROC_DIR: {directory}: {error.strerror}") from error


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


def prepare_spool(settings: Settings, manifest: Manifest) -> None:
    """Make the directories of the spool, with the training rows for its readers.

    Raises StartError.
    """
    directories = settings.spool_dirs
    try:
        check_excluded(manifest, settings.spool_exclude)
    except ValueError as error:
        raise StartError(str(error)) from error
    for name in ("spool_dir", "spool_log_dir"):
        if directory := getattr(settings, name):
            make_writable(variable(name), directory)
    try:
        check_links(directories)
    except OSError as error:
        raise StartError(
            f"MODEL_SPOOL_LOG_DIR: {directories[-1]} and {directories[0]} must be on"
            f" one file system that has hard links: {error.strerror}"
        ) from error
    try:
        place_reference(directories, settings.bundle, manifest, settings.spool_exclude)
    except OSError as error:
        raise StartError(f"MODEL_SPOOL_DIR: {error.filename}: {error.strerror}") from error


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
