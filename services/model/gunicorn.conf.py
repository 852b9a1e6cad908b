"""gunicorn's configuration, from the settings, and its hooks."""

import logging
from typing import TYPE_CHECKING

import serving.app  # noqa: F401 imported once, which saves half a second in every worker
from serving.logs import logging_config
from serving.metrics.archive import archive_dead_workers
from serving.metrics.server import start_metrics_server
from serving.settings import read_settings
from serving.workers.connection_counts import ConnectionCounts

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

    from serving.workers.worker import Worker

settings = read_settings()
connection_counts = ConnectionCounts()

host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.workers
worker_class = "serving.workers.worker.Worker"
graceful_timeout = settings.graceful_timeout
# Longer than a proxy keeps its connections, or it may send a request into a closing one.
keepalive = 75
# Never: the master, which serves no request, would export metrics of its own.
preload_app = False
# This directory is writable and in memory.
worker_tmp_dir = str(settings.metrics_dir)
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level, settings.log_format)


def when_ready(_server: "Arbiter") -> None:
    """Serve /metrics from the master."""
    start_metrics_server(settings)


def pre_fork(_server: "Arbiter", worker: "Worker") -> None:
    """Give a worker its entry in the connection counts."""
    worker.connection_count = connection_counts.of(worker.age)


def child_exit(server: "Arbiter", worker: "Worker") -> None:
    """Keep a dead worker's counts. An exception would stop the service."""
    worker.connection_count.stop()
    try:
        archive_dead_workers(settings.metrics_dir, server.WORKERS)
    except Exception:
        logging.getLogger("gunicorn.error").exception("a dead worker's metrics were not archived")
