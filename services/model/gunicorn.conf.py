"""gunicorn's configuration: settings in, hooks of the metrics out."""

import logging
from typing import TYPE_CHECKING

import serving.app  # noqa: F401 once here, instead of half a second in every worker
from serving.logs import logging_config
from serving.metrics.archive import archive_dead_workers
from serving.metrics.server import start_metrics_server
from serving.settings import read_settings
from serving.workers.connection_counts import Seats
from serving.workers.worker import Token

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

    from serving.workers.worker import Worker

settings = read_settings()
seats = Seats()
token = Token()

host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.workers
worker_class = "serving.workers.worker.Worker"
graceful_timeout = settings.graceful_timeout
# Longer than what stands in front keeps its connections, or it sends into a closing one.
keepalive = 75
# Never: metrics would be exported by the master, which serves no request.
preload_app = False
# The one directory that is writable, and in memory.
worker_tmp_dir = str(settings.metrics_dir)
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level, settings.log_format)


def when_ready(_server: "Arbiter") -> None:
    """Serve /metrics from the master."""
    start_metrics_server(settings)


def pre_fork(_server: "Arbiter", worker: "Worker") -> None:
    """Give a worker its seat, and what it shares with all others."""
    worker.seat = seats.of(worker.age)
    worker.token = token


def child_exit(server: "Arbiter", worker: "Worker") -> None:
    """Keep a dead worker's counts, and give up its seat. An exception would stop the service."""
    worker.seat.leave()
    try:
        archive_dead_workers(settings.metrics_dir, server.WORKERS)
    except Exception:
        logging.getLogger("gunicorn.error").exception("a dead worker's metrics were not archived")
