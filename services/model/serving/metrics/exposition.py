"""The workers' metric files as one page, in Prometheus's text format or in OpenMetrics 1.0.

Why it exists: prometheus_client's MultiProcessCollector computes the same page, but parses every
file and joins every label at each scrape: 11 ms instead of 1 for the example, 81 instead of 3 for
200 features (docs/performance.md). To remove it, let server.py pass a MultiProcessCollector to
prometheus_client's own server.

Prepared once: the series of each file and their positions in it, and every line except its value.
A scrape then reads the files as arrays of float64, adds them up, and appends the values.

It relies on prometheus_client's file format (slots.py), which tests/unit/serving/metrics compares
with the library's own reader.
"""

import json
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from serving.metrics.slots import SUFFIX, entries, owner, used_bytes


class MissingFileError(Exception):
    """A live worker's metric file is gone; without it the page would claim that counters fell."""


class Series(NamedTuple):
    """One series, from a key of a file and the file's name."""

    type: str
    family: str
    sample: str
    labels: dict[str, str]
    help: str


class _File(NamedTuple):
    """The series of a file (indices into Exposition's list) and the positions of their values."""

    inode: int
    used: int
    series: NDArray[np.intp]
    positions: NDArray[np.intp]


class Exposition:
    """Adds up the metric files of a directory and writes the page. Not thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[str, _File] = {}
        self._numbers: dict[str, int] = {}
        self._series: list[Series] = []
        self._page = _Page([])

    def text(self, *, openmetrics: bool = False, alive: Collection[int] = ()) -> str:
        """Return every series, summed over the processes; of OpenMetrics, all but the last line.

        Raises MissingFileError if a file of a process that is `alive` (pids) is gone.
        """
        # Path's methods would double the time that reading takes.
        listed = os.listdir(self._directory)  # noqa: PTH208
        names = sorted(name for name in listed if name.endswith(SUFFIX))
        self._check(names, alive)
        read = [self._read(name) for name in names]
        # Forget files that are gone: workers may come and go for as long as the master lives.
        self._files = {name: self._files[name] for name in names}
        if len(self._page.series) < len(self._series):
            self._page = _Page(self._series)
        totals = np.zeros(len(self._series) + 1)
        for series, values in read:
            totals[series] += values
        return self._page.text(totals, openmetrics=openmetrics)

    def _check(self, names: Sequence[str], alive: Collection[int]) -> None:
        gone = [name for name in self._files.keys() - {*names} if owner(name) in alive]
        gone += [f"*_{pid}{SUFFIX}" for pid in {*alive} - {owner(name) for name in names}]
        if gone:
            raise MissingFileError(f"{', '.join(sorted(gone))} of a live worker: no such file")

    def _read(self, name: str) -> tuple[NDArray[np.intp], Floats]:
        """Return a file's series and values."""
        # To the end: the file may have grown since it was opened.
        with open(f"{self._directory}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            inode, content = os.fstat(file.fileno()).st_ino, file.readall()
        known = self._files.get(name)
        if known is None or (known.inode, known.used) != (inode, used_bytes(content)):
            known = self._files[name] = self._register(name, content, inode)
        return known.series, np.frombuffer(content, np.float64, len(content) // 8)[known.positions]

    def _register(self, name: str, content: bytes, inode: int) -> _File:
        type_ = name.partition("_")[0]
        found = [(self._number(type_, key), position) for key, position in entries(content)]
        series, positions = np.array(found, np.intp).reshape(-1, 2).T
        return _File(inode, used_bytes(content), series, positions)

    def _number(self, type_: str, key: str) -> int:
        """Return the index of a series, adding it to the list if it is new."""
        if key not in self._numbers:
            family, sample, labels, help_text = json.loads(key)
            self._numbers[key] = len(self._series)
            self._series.append(Series(type_, family, sample, labels, help_text))
        return self._numbers[key]


class _Page:
    """The lines of some series, without their values."""

    def __init__(self, series: list[Series]) -> None:
        self.series = series[:]
        # By format: Prometheus's text, and OpenMetrics. They differ in the families' headers only.
        self._lines: tuple[list[str], list[str]] = ([], [])
        self._numbers: list[int] = []
        # Files hold the count of each bucket by itself; the page has cumulated ones.
        self._cumulated: list[slice] = []
        families = defaultdict(list)
        for number, each in enumerate(series):
            families[each.family].append((number, each))
        for members in families.values():
            self._add_family(members)
        self._order = np.array(self._numbers, np.intp)

    def text(self, totals: Floats, *, openmetrics: bool) -> str:
        """Return the page with `totals` by index of series, and a 0 after them."""
        values = totals[self._order]
        for part in self._cumulated:
            values[part] = np.cumsum(values[part])
        pairs = zip(self._lines[openmetrics], values.tolist(), strict=True)
        return "".join([f"{line} {value!r}\n" for line, value in pairs])

    def _add_family(self, members: list[tuple[int, Series]]) -> None:
        start = len(self._numbers)
        # OpenMetrics wants the samples of one label set, such as a histogram's, next to each other.
        groups = defaultdict(list)
        for number, each in members:
            groups[_labels(each.labels, without="le")].append((number, each))
        for labels, group in groups.items():
            if buckets := [member for member in group if "le" in member[1].labels]:
                self._add_buckets(labels, buckets)
            for number, each in group:
                if "le" not in each.labels:
                    self._add(each.sample, labels, number)
        _, first = members[0]
        text, openmetrics = self._lines
        text[start] = _header(first) + text[start]
        openmetrics[start] = _openmetrics_header(first) + openmetrics[start]

    def _add_buckets(self, labels: str, buckets: list[tuple[int, Series]]) -> None:
        start = len(self._numbers)
        for number, each in sorted(buckets, key=lambda member: float(member[1].labels["le"])):
            self._add(each.sample, _labels(each.labels), number)
        # The count equals the last bucket: it adds the 0 after all totals to the cumulated sum.
        self._add(f"{buckets[0][1].family}_count", labels, -1)
        self._cumulated.append(slice(start, len(self._numbers)))

    def _add(self, sample: str, labels: str, number: int) -> None:
        for lines in self._lines:
            lines.append(f"{sample}{labels}")
        self._numbers.append(number)


def _header(series: Series) -> str:
    name = f"{series.family}_total" if series.type == "counter" else series.family
    help_text = series.help.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {help_text}\n# TYPE {name} {series.type}\n"


def _openmetrics_header(series: Series) -> str:
    help_text = _escape(series.help)
    return f"# HELP {series.family} {help_text}\n# TYPE {series.family} {series.type}\n"


def _labels(labels: dict[str, str], without: str = "") -> str:
    """Return labels as text, in order."""
    parts = [
        f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()) if name != without
    ]
    return "{" + ",".join(parts) + "}" if parts else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
