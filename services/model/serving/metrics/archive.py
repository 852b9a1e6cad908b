"""Merges the metric files of dead workers into one per type, so that scrapes do not slow down.

Without it prometheus_client keeps the files of every dead worker, because counters would decrease
if they were deleted (prometheus/client_python#568).
"""

import threading
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

import numpy as np

from serving.metrics.slots import SUFFIX, encode, entries, owner

ARCHIVE = "archive"
# The types whose series are summed; the gauges of a dead worker are meaningless.
_ADDED_TYPES = ("counter", "histogram", "summary")

# Held while files are read or merged.
files_lock = threading.Lock()


def archive_dead_workers(directory: Path, alive: Collection[int]) -> None:
    """Merge the files of all processes that are not `alive` (pids) into the archive."""
    with files_lock:
        keep = {*alive, ARCHIVE}
        dead = [path for path in directory.glob(f"*{SUFFIX}") if owner(path.name) not in keep]
        for path in dead:
            if not path.name.startswith(_ADDED_TYPES):
                path.unlink()
        for type_ in _ADDED_TYPES:
            _merge(directory, type_, [path for path in dead if path.name.startswith(type_)])


def _merge(directory: Path, type_: str, dead: list[Path]) -> None:
    archive = directory / f"{type_}_{ARCHIVE}{SUFFIX}"
    if not dead:
        return
    values: defaultdict[str, float] = defaultdict(float)
    for path in (archive, *dead):
        if path.exists():
            content = path.read_bytes()
            numbers = np.frombuffer(content, np.float64, len(content) // 8)
            for key, position in entries(content):
                values[key] += numbers[position]
    unfinished = archive.with_suffix(".new")
    unfinished.write_bytes(encode(values.items())[0])
    unfinished.replace(archive)
    # Removed before the next type is merged: if that failed, these would be counted twice.
    for path in dead:
        path.unlink()
