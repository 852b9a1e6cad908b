"""Counters as float64 slots of a file that prometheus_client's MultiProcessCollector reads.

Why it exists: prometheus_client updates one series at a time, which takes about 5 µs in
multiprocess mode, and a prediction updates dozens of series: 60 to 70 µs per row. Here a process
declares all its series once and updates any number of them with one NumPy statement: 14 µs for a
single row, 0.7 µs per row of a batch (docs/performance.md). To remove it, declare the families as
Counter and Histogram of prometheus_client.

It relies on the file format of prometheus_client.mmap_dict: int32 bytes used, 4 bytes of padding;
then for each entry int32 key length, the key padded to 8 bytes, float64 value, float64 timestamp.
Everything is 8-byte aligned, so the file is also an array of float64. Its name begins with the
metric type. tests/unit/serving/metrics compares it with the library's reader.

Files are fully allocated, so a full directory harms no process that has its files. A process that
starts then leaves an empty file, and counts in memory of its own, which nobody reads.
"""

import logging
import mmap
import os
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from prometheus_client.mmap_dict import mmap_key
from prometheus_client.utils import floatToGoString

from bundle.arrays import Floats
from serving.metrics.allocate import FullError, allocate

Labels = Mapping[str, str]
SUFFIX = ".db"
_INT32 = struct.Struct("i")
# A file grows by this many bytes or more.
_GROWTH = 4096

log = logging.getLogger(__name__)


class Slots:
    """The series of a file, mapped into memory. Not thread-safe; each process has its own files.

    `values` and `cells` are the same memory: NumPy is faster for many slots, a memoryview for one.
    `positions` and `places` are each slot's index into it.
    """

    # Whether this process has slots without a file, because there was no room for it.
    is_any_lost: ClassVar[bool] = False

    def __init__(self, path: Path, content: bytes, positions: Sequence[int]) -> None:
        self._path = path
        self._used = len(content)
        mapped = _create(path, content)
        self._has_file = mapped is not None
        if mapped is None:
            if not Slots.is_any_lost:
                log.error(
                    "%s is full: this worker's counts are lost; reload once there is room",
                    path.parent,
                )
            Slots.is_any_lost = True
            mapped = mmap.mmap(-1, len(content))
            mapped[:] = content
        self._map(mapped)
        self.positions = np.array(positions, dtype=np.intp)
        self.places = positions

    def _map(self, mapped: mmap.mmap) -> None:
        self._capacity = len(mapped)
        self.values = np.frombuffer(mapped, dtype=np.float64)
        self.cells: memoryview[float] = memoryview(mapped).cast("d")

    def append(self, keys: Sequence[str]) -> list[int]:
        """Add series at 0, and return their indices into `cells`, which is then another object.

        Raises FullError or OSError; then there are no more series than before.
        """
        content, positions = encode((key, 0.0) for key in keys)
        added = content[8:]
        start, end = self._used, self._used + len(added)
        if end > self._capacity:
            self._grow(max(end, self._capacity + _GROWTH))
        memory = self.cells.cast("B")
        memory[start:end] = added
        # Only now do readers see them.
        self.cells.cast("B").cast("i")[0] = self._used = end
        return [position - 1 + start // 8 for position in positions]

    def _grow(self, size: int) -> None:
        if not self._has_file:
            mapped = mmap.mmap(-1, size)
            mapped[: self._capacity] = self.cells.cast("B")
        else:
            descriptor = os.open(self._path, os.O_RDWR)
            try:
                allocate(descriptor, self._capacity, size - self._capacity)
                mapped = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        self._map(mapped)

    def increment(self, slot: int, amount: float) -> None:
        """Add to one slot."""
        self.cells[self.places[slot]] += amount

    def add(self, slots: slice | NDArray[np.intp] | int, amounts: Floats | float) -> None:
        """Add `amounts` (the shape of `slots`) to distinct slots."""
        self.values[self.positions[slots]] += amounts


@dataclass
class Layout:
    """The series of one process in order of declaration; a slot is an index into them."""

    type: str
    keys: list[str] = field(default_factory=list)

    def counter(self, name: str, help_text: str, labels: Labels) -> int:
        """Declare a counter (`name` without `_total`); return its slot."""
        return self._declare(name, f"{name}_total", help_text, labels)

    def histogram(
        self, name: str, help_text: str, labels: Labels, bounds: Sequence[float]
    ) -> slice:
        """Declare a histogram; return its slots: one per bucket (the last is +Inf), then the sum.

        Buckets in the file are not cumulative; the collector adds them up.
        """
        start = len(self.keys)
        for bound in (*bounds, float("inf")):
            le = {"le": floatToGoString(bound)}  # type: ignore[no-untyped-call]
            self._declare(name, f"{name}_bucket", help_text, {**labels, **le})
        self._declare(name, f"{name}_sum", help_text, labels)
        return slice(start, len(self.keys))

    def summary(self, name: str, help_text: str, labels: Labels) -> slice:
        """Declare a summary; return its slots: count and sum."""
        start = len(self.keys)
        self._declare(name, f"{name}_count", help_text, labels)
        self._declare(name, f"{name}_sum", help_text, labels)
        return slice(start, start + 2)

    def gauge(self, name: str, help_text: str, labels: Labels) -> int:
        """Declare a gauge; return its slot. The layout's type defines how processes are merged."""
        return self._declare(name, name, help_text, labels)

    def _declare(self, metric: str, sample: str, help_text: str, labels: Labels) -> int:
        self.keys.append(mmap_key(metric, sample, list(labels), list(labels.values()), help_text))
        return len(self.keys) - 1

    def create(self, directory: Path, name: str) -> Slots:
        """Write the file with every series at 0 and map it. Raises OSError."""
        content, positions = encode((key, 0.0) for key in self.keys)
        path = directory / f"{self.type}_{name}_{os.getpid()}{SUFFIX}"
        return Slots(path, content, positions)


def owner(name: str) -> int | str:
    """Return the process that a file belongs to; the file's name is `type[_name]_pid.db`."""
    pid = name.removesuffix(SUFFIX).rpartition("_")[2]
    return int(pid) if pid.isdecimal() else pid


def _create(path: Path, content: bytes) -> mmap.mmap | None:
    """Write a file and map it; if there is no room, leave an empty file and return None."""
    unfinished = path.with_suffix(".new")
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    mapped: mmap.mmap | None = None
    try:
        allocate(descriptor, 0, len(content))
        mapped = mmap.mmap(descriptor, len(content))
        mapped[:] = content
    except FullError:
        pass  # reported by the caller
    finally:
        os.close(descriptor)
    unfinished.replace(path)
    return mapped


def used_bytes(content: bytes) -> int:
    """Return the number of a file's bytes that are in use, 0 for an empty file."""
    used: int = _INT32.unpack_from(content)[0] if content else 0
    return used


def entries(content: bytes) -> Iterator[tuple[str, int]]:
    """Yield each key in a file's bytes and the index of its value as float64."""
    offset, used = 8, used_bytes(content)
    while offset < used:
        length: int = _INT32.unpack_from(content, offset)[0]
        key = content[offset + 4 : offset + 4 + length].decode()
        offset += 4 + length + _padding(length)
        yield key, offset // 8
        offset += 16


def encode(pairs: Iterable[tuple[str, float]]) -> tuple[bytes, list[int]]:
    """Return a file of (key, value) entries and the index of each value as float64."""
    parts = []
    positions = []
    used = 8
    for key, value in pairs:
        encoded = key.encode()
        padded = encoded + b" " * _padding(len(encoded))
        parts.append(struct.pack(f"i{len(padded)}sdd", len(encoded), padded, value, 0.0))
        used += len(parts[-1])
        positions.append((used - 16) // 8)
    return struct.pack("i4x", used) + b"".join(parts), positions


def _padding(key_bytes: int) -> int:
    return 8 - (key_bytes + 4) % 8
