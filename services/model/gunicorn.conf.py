"""gunicorn's configuration, from the settings, and its hooks. It is read again at each reload."""

import queue
import signal
from typing import TYPE_CHECKING, cast

import serving.app  # noqa: F401 imported once, which saves half a second in every worker
from serving import master
from serving.logs import logging_config
from serving.settings import read_settings

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter

    from serving.master import Master
    from serving.workers.worker import Worker

settings = read_settings()

host = f"[{settings.host}]" if ":" in settings.host else settings.host
bind = f"{host}:{settings.port}"
workers = settings.workers
worker_class = "serving.workers.worker.Worker"
graceful_timeout = settings.graceful_timeout
# Never: the master, which serves no request, would export metrics of its own.
preload_app = False
# This directory is writable and in memory.
worker_tmp_dir = str(settings.metrics_dir)
control_socket_disable = True
logconfig_dict = logging_config(settings.log_level, settings.log_format)


def on_starting(server: "Arbiter") -> None:
    """Pin the bundle."""
    live = cast("dict[int, Worker]", server.WORKERS)
    master.start(settings, lambda: [*live.values()])


def when_ready(_server: "Arbiter") -> None:
    """Serve /metrics from the master."""
    _master().serve()


def on_reload(_server: "Arbiter") -> None:
    """Take the bundle that is there now."""
    _master().reload()


def pre_fork(_server: "Arbiter", worker: "Worker") -> None:
    """Give a worker its entry in the connection counts."""
    _master().prepare(worker)


def post_fork(_server: "Arbiter", _worker: "Worker") -> None:
    """Close what a worker has inherited and does not use."""
    _master().close_inherited()


def child_exit(_server: "Arbiter", worker: "Worker") -> None:
    """Keep a dead worker's counts."""
    _master().bury(worker)


def on_exit(server: "Arbiter") -> None:
    """Wait for a last scrape; another signal ends the wait."""
    _master().wait_for_last_scrape(lambda: _is_interrupted(server))


def _is_interrupted(server: "Arbiter") -> bool:
    while True:
        try:
            number = server.SIG_QUEUE.get_nowait()
        except queue.Empty:
            return False
        if number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            return True


def _master() -> "Master":
    found = master.current()
    assert found is not None, "on_starting comes first"  # noqa: S101
    return found
