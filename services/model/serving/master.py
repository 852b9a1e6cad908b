"""The master's part of the service; gunicorn.conf.py calls it at each turn of the master's life.

The master pins the bundle: it loads it once, and every worker inherits it. So whatever happens to
the bundle's directory, all workers serve one version, until a reload takes another. It also keeps
what the workers share, and serves /metrics.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bundle.load import BundleError, load_bundle, trained_at
from serving.metrics.archive import archive_dead_workers
from serving.metrics.processes import ProcessCollector
from serving.metrics.server import MetricsServer, Pages
from serving.metrics.slots import Layout
from serving.settings import Settings
from serving.spool_readers import place_reference
from serving.workers.connection_counts import ConnectionCounts

if TYPE_CHECKING:
    from serving.workers.worker import Worker

Outcome = Literal["taken", "unchanged", "kept"]
OUTCOMES: tuple[Outcome, ...] = ("taken", "unchanged", "kept")
# How long the check of a new bundle may take.
_CHECK_SECONDS = 120
# An interval between scrapes, and a second for the scrape.
LAST_SCRAPE_SECONDS = 16

log = logging.getLogger(__name__)


class Counters:
    """The master's own counters, in a file that workers inherit."""

    def __init__(self, directory: Path) -> None:
        layout = Layout("counter")
        reloads = {
            outcome: layout.counter(
                "service_reloads",
                "Reloads: another bundle was taken, it is unchanged, or the old one was kept"
                " because the new one does not work.",
                {"outcome": outcome},
            )
            for outcome in OUTCOMES
        }
        uncounted = layout.counter(
            "service_uncounted_requests",
            "Requests answered by a worker for whose counts the metrics directory had no room.",
            {},
        )
        self._slots = layout.create(directory, "master")
        self._reloads, self._uncounted = reloads, uncounted

    def reload(self, outcome: Outcome) -> None:
        """Count a reload."""
        self._slots.increment(self._reloads[outcome], 1)

    def uncounted(self, requests: int) -> None:
        """Count requests; of two workers that do so at the same moment, one may be lost."""
        self._slots.increment(self._uncounted, requests)


class Master:
    """What lives as long as gunicorn's master."""

    def __init__(self, settings: Settings, workers: Callable[[], Iterable["Worker"]]) -> None:
        """Load the bundle. Raises BundleError and OSError."""
        self._settings = settings
        self._workers = workers
        self._connection_counts = ConnectionCounts()
        self.counters = Counters(settings.metrics_dir)
        self._pages = Pages(settings, self._accepting, ProcessCollector(self._processes))
        self._server: MetricsServer | None = None
        self._pin(settings.bundle.resolve())

    def serve(self) -> None:
        """Serve /metrics. Raises OSError if the port is taken."""
        self._server = MetricsServer(self._settings, self._pages)
        self._server.start()

    def reload(self) -> None:
        """Take the bundle that is there now, or keep the old one if it does not work."""
        before = self.bundle.manifest
        try:
            directory = self._settings.bundle.resolve()
            _check(directory, self._settings)
            self._pin(directory)
        except Exception as error:  # noqa: BLE001 a bundle's code may raise anything
            self.counters.reload("kept")
            reason = " ".join(str(error).split())
            log.error("version %s is kept: %s", before.version, reason)  # noqa: TRY400
            return
        is_same = self.bundle.manifest == before
        self.counters.reload("unchanged" if is_same else "taken")
        log.info("version %s is served", self.bundle.manifest.version)

    def prepare(self, worker: "Worker") -> None:
        """Give a worker, before it is forked, its entry in the connection counts."""
        in_use = [each.connection_count for each in self._workers()]
        worker.connection_count = self._connection_counts.free(in_use)

    def close_inherited(self) -> None:
        """Close, in a worker, what only the master uses."""
        if self._server is not None:
            self._server.close_inherited()

    def bury(self, worker: "Worker") -> None:
        """Keep a dead worker's counts."""
        worker.connection_count.stop()
        alive = [*(each.pid for each in self._workers()), os.getpid()]
        try:
            archive_dead_workers(self._settings.metrics_dir, alive)
        except OSError as error:
            # Its files stay, and are archived with those of the next one.
            log.warning("a dead worker's metrics are not archived: %s", error)
        except Exception:
            # It would stop the service.
            log.exception("a dead worker's metrics are not archived")

    def wait_for_last_scrape(self, is_interrupted: Callable[[], bool]) -> None:
        """Stay, when all workers have ended, until what they counted last has been scraped."""
        if self._server is not None:
            self._server.wait_for_last_scrape(LAST_SCRAPE_SECONDS, is_interrupted)

    def _pin(self, directory: Path) -> None:
        bundle = load_bundle(directory)
        settings = self._settings
        place_reference(settings.spool_dirs, directory, bundle.manifest, settings.spool_exclude)
        self.bundle = bundle
        self._pages.show(bundle.manifest, trained_at(directory))

    def _accepting(self) -> list[int]:
        """Return the pids of the workers that accept connections, and so have metric files."""
        return [each.pid for each in self._workers() if each.connection_count.is_accepting]

    def _processes(self) -> dict[str, int]:
        """Return the pid of each process of the service, by a name that its successor may have."""
        workers = {f"worker-{each.connection_count.index}": each.pid for each in self._workers()}
        return {"master": os.getpid()} | workers


# The master of this process, or the one that forked it.
_current: list[Master] = []


def start(settings: Settings, workers: Callable[[], Iterable["Worker"]]) -> Master:
    """Return a new master; every worker that it forks finds it by `current`."""
    _current[:] = [Master(settings, workers)]
    return _current[0]


def current() -> Master | None:
    """Return the master that this process is or was forked by; None without gunicorn."""
    return _current[0] if _current else None


def _check(directory: Path, settings: Settings) -> None:
    """Start a worker's application on a bundle, in a process of its own. Raises BundleError.

    A bundle's code may do anything, even end the process that loads it.
    """
    environment = {**os.environ, "MODEL_BUNDLE": str(directory)}
    checked = subprocess.run(  # noqa: S603 our own program
        [sys.executable, "-m", "serving.check", settings.metrics_dir],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_CHECK_SECONDS,
        check=False,
    )
    if checked.returncode:
        lines = checked.stderr.strip().splitlines() or [f"exit status {checked.returncode}"]
        raise BundleError(f"{directory}: {lines[-1]}")
