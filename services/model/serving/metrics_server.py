"""/metrics on its own port, served by gunicorn's master: a scrape never holds up a prediction.

The workers' files are summed at each scrape. Files of a worker that has died are merged into one
archive: its counts stay, and a scrape does not grow slower with every worker ever started
(prometheus/client_python#568).
"""

import os
import threading
from collections import defaultdict
from collections.abc import Collection, Iterable
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from bundle.load import load_manifest, trained_at
from serving.facts import FactsCollector
from serving.settings import Settings
from serving.slots import encode

ARCHIVE = "archive"
# Their series add up; a dead worker's gauges mean nothing.
_ADDED_TYPES = ("counter", "histogram", "summary")

# Held while files are read or merged, and while a worker is forked: what a scrape's thread holds at
# that moment, no thread of the child would ever release.
_files = threading.Lock()


class _WorkersCollector(Collector):
    """Sums the workers' files."""

    def __init__(self, directory: Path) -> None:
        self._collector = MultiProcessCollector(None, str(directory))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        with _files:
            return list(self._collector.collect())  # type: ignore[no-untyped-call]


def start_metrics_server(settings: Settings) -> None:
    """Serve /metrics from a thread of this process. Raises OSError: the port is taken."""
    os.register_at_fork(
        before=_files.acquire, after_in_parent=_files.release, after_in_child=_files.release
    )
    registry = CollectorRegistry()
    registry.register(_WorkersCollector(settings.metrics_dir))
    facts = FactsCollector(load_manifest(settings.bundle), trained_at(settings.bundle))
    registry.register(facts)
    start_http_server(settings.metrics_port, settings.host, registry)


def archive_dead_workers(directory: Path, alive: Collection[int]) -> None:
    """Merge the files of every process that is not `alive` (by pid) into the archive."""
    with _files:
        dead = [path for path in directory.glob("*.db") if _pid(path) not in {*alive, ARCHIVE}]
        for path in dead:
            if path.name.startswith("gauge"):
                path.unlink()
        for type_ in _ADDED_TYPES:
            _archive(directory, type_, [path for path in dead if path.name.startswith(type_)])


def _archive(directory: Path, type_: str, dead: list[Path]) -> None:
    archive = directory / f"{type_}_{ARCHIVE}.db"
    if not dead:
        return
    values: defaultdict[str, float] = defaultdict(float)
    for path in (archive, *dead):
        if path.exists():
            for key, value, _, _ in MmapedDict.read_all_values_from_file(path):  # type: ignore[no-untyped-call]
                values[key] += value
    unfinished = archive.with_suffix(".new")
    unfinished.write_bytes(encode(values.items())[0])
    unfinished.replace(archive)
    for path in dead:
        path.unlink()


def _pid(path: Path) -> int | str:
    """Return the process a file belongs to: its name is `type[_name]_pid.db`."""
    owner = path.stem.rpartition("_")[2]
    return int(owner) if owner.isdecimal() else owner
