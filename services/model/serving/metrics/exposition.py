"""The workers' files as Prometheus text: what MultiProcessCollector computes, many times faster.

What is prepared once: which series a file holds and where, and every line but its number. A scrape
then reads the files as arrays of float64, adds them up, and writes the numbers behind the lines.
"""

import json
import os
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from serving.metrics.slots import entries, used_bytes


class Series(NamedTuple):
    """One series, as a file's key and name describe it."""

    type: str
    family: str
    sample: str
    labels: dict[str, str]
    help: str


class _File(NamedTuple):
    """Which series a file holds (numbers of Exposition's) and where their values are (float64)."""

    inode: int
    used: int
    series: NDArray[np.intp]
    positions: NDArray[np.intp]


class Exposition:
    """Adds up and writes the metric files of a directory. Not for use by several threads."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, _File] = {}
        self._numbers: dict[str, int] = {}
        self._series: list[Series] = []
        self._page = _Page([])

    def text(self) -> str:
        """Return every series, summed over the processes, in Prometheus's text format."""
        paths = sorted(self._directory.glob("*.db"))
        read = [self._read(path) for path in paths]
        # Of files that are gone nothing is kept: workers may die for as long as the master lives.
        self._files = {path: self._files[path] for path in paths}
        if len(self._page.series) < len(self._series):
            self._page = _Page(self._series)
        totals = np.zeros(len(self._series) + 1)
        for series, values in read:
            totals[series] += values
        return self._page.text(totals)

    def _read(self, path: Path) -> tuple[NDArray[np.intp], Floats]:
        """Return a file's series and values."""
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            content = file.read()
        known = self._files.get(path)
        if known is None or (known.inode, known.used) != (inode, used_bytes(content)):
            known = self._files[path] = self._learn(path, content, inode)
        return known.series, np.frombuffer(content, np.float64, len(content) // 8)[known.positions]

    def _learn(self, path: Path, content: bytes, inode: int) -> _File:
        type_ = path.name.partition("_")[0]
        found = [(self._number(type_, key), position) for key, position in entries(content)]
        series, positions = np.array(found, np.intp).reshape(-1, 2).T
        return _File(inode, used_bytes(content), series, positions)

    def _number(self, type_: str, key: str) -> int:
        """Return a series' number; the first sight of it gives it one."""
        if key not in self._numbers:
            family, sample, labels, help_text = json.loads(key)
            self._numbers[key] = len(self._series)
            self._series.append(Series(type_, family, sample, labels, help_text))
        return self._numbers[key]


class _Page:
    """The lines of some series, all but their numbers."""

    def __init__(self, series: list[Series]) -> None:
        self.series = series[:]
        self._lines: list[str] = []
        self._numbers: list[int] = []
        # Buckets hold counts of their own, which are written cumulated.
        self._cumulated: list[slice] = []
        families = defaultdict(list)
        for number, each in enumerate(series):
            families[each.family].append((number, each))
        for members in families.values():
            self._add_family(members)
        self._order = np.array(self._numbers, np.intp)

    def text(self, totals: Floats) -> str:
        """Return the page with `totals` by number of series, and a 0 after them."""
        values = totals[self._order]
        for part in self._cumulated:
            values[part] = np.cumsum(values[part])
        pairs = zip(self._lines, values.tolist(), strict=True)
        return "".join([f"{line} {value!r}\n" for line, value in pairs])

    def _add_family(self, members: list[tuple[int, Series]]) -> None:
        start = len(self._lines)
        buckets = defaultdict(list)
        for number, each in members:
            if "le" in each.labels:
                buckets[_labels(each.labels, without="le")].append((number, each))
            else:
                self._add(each.sample, _labels(each.labels), number)
        for labels, group in buckets.items():
            self._add_buckets(labels, group)
        _, first = members[0]
        name = f"{first.family}_total" if first.type == "counter" else first.family
        help_text = first.help.replace("\\", r"\\").replace("\n", r"\n")
        header = f"# HELP {name} {help_text}\n# TYPE {name} {first.type}\n"
        self._lines[start] = header + self._lines[start]

    def _add_buckets(self, labels: str, group: list[tuple[int, Series]]) -> None:
        start = len(self._lines)
        for number, each in sorted(group, key=lambda member: float(member[1].labels["le"])):
            self._add(each.sample, _labels(each.labels), number)
        # The count is the last bucket cumulated with nothing: with the 0 after all totals.
        self._add(f"{group[0][1].family}_count", labels, -1)
        self._cumulated.append(slice(start, len(self._lines)))

    def _add(self, sample: str, labels: str, number: int) -> None:
        self._lines.append(f"{sample}{labels}")
        self._numbers.append(number)


def _labels(labels: dict[str, str], without: str = "") -> str:
    """Return labels as text, in order."""
    parts = [
        f'{name}="{_escape(value)}"' for name, value in sorted(labels.items()) if name != without
    ]
    return "{" + ",".join(parts) + "}" if parts else ""


def _escape(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
