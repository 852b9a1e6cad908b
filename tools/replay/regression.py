"""Differences between two predicted numbers."""

import heapq
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from bundle.arrays import Floats
from tools.replay.log import Groups, Part, Row, group_of
from tools.replay.verdict import error_verdict


@dataclass(frozen=True)
class Worst:
    """A row and both predictions of it."""

    row: dict[str, object]
    logged: float
    replayed: float


class Largest:
    """The distinct rows with the largest differences, of all versions."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, Row, Worst]] = []
        self._number = count()

    def add(self, part: Part, new: Floats) -> None:
        """Add the rows of a part, with the other model's predictions (n,)."""
        sizes = np.abs(new - part.predictions)
        accepted = np.flatnonzero(np.isfinite(sizes))
        for index in accepted[np.argsort(-sizes[accepted], kind="stable")]:
            if len(self._heap) == self._limit and sizes[index] <= self._smallest():
                return
            self._push(float(sizes[index]), part, int(index), float(new[index]))

    def _smallest(self) -> float:
        return self._heap[0][0] if self._heap else np.inf

    def _push(self, size: float, part: Part, index: int, new: float) -> None:
        row = part.rows[index]
        if any(row == known for _, _, known, _ in self._heap):
            return
        named: dict[str, object] = dict(zip(part.names, row, strict=True))
        worst = Worst(named, float(part.predictions[index]), new)
        # The number breaks ties in favour of the earlier row.
        entry = (size, -next(self._number), row, worst)
        heapq.heappush(self._heap, entry)
        if len(self._heap) > self._limit:
            heapq.heappop(self._heap)

    def report(self) -> Iterator[str]:
        """Yield the rows, largest difference first."""
        if self._heap:
            yield "largest differences:"
        for _, _, _, each in sorted(self._heap, reverse=True):
            yield f"{each.logged:.4g} → {each.replayed:.4g} {json.dumps(each.row)}"


class Numbers:
    """The differences of one logged version, in 40 bytes a prediction."""

    def __init__(self, largest: Largest) -> None:
        self._largest = largest
        self._differences: list[Floats] = []
        self._logged_errors: list[Floats] = []
        self._replayed_errors: list[Floats] = []
        # For each labelled row a number that equal rows share.
        self._groups: list[Groups] = []

    def add(self, part: Part, new: Floats, actual: Floats) -> None:
        """Add a part, with the other model's predictions (n,) and true values (n,), or NaN."""
        self._largest.add(part, new)
        accepted = np.isfinite(new)
        self._differences.append((new - part.predictions)[accepted])
        known = accepted & np.isfinite(actual)
        self._logged_errors.append((part.predictions - actual)[known])
        self._replayed_errors.append((new - actual)[known])
        self._groups.append(group_of(part, known))

    def report(self) -> Iterator[str]:
        """Yield the lines of the comparison."""
        difference = np.concatenate(self._differences)
        absolute = np.abs(difference)
        if not absolute.size:
            return
        yield f"different predictions: {(absolute > 0).mean():.1%}"
        yield f"difference: mean {difference.mean():+.4g}, mean absolute {absolute.mean():.4g}"
        median, p99 = np.quantile(absolute, (0.5, 0.99))
        yield f"absolute: median {median:.4g}, p99 {p99:.4g}, maximum {absolute.max():.4g}"
        yield from self._errors()

    def _errors(self) -> Iterator[str]:
        """Yield the errors on labelled rows that both accepted, and which version is better."""
        logged, replayed = map(np.concatenate, (self._logged_errors, self._replayed_errors))
        if not logged.size:
            return
        yield f"labelled rows: {logged.size}"
        for name, errors in (("logged", logged), ("replayed", replayed)):
            mae, rmse = np.abs(errors).mean(), np.sqrt((errors**2).mean())
            yield f"{name}: MAE {mae:.4g}, RMSE {rmse:.4g}, bias {errors.mean():+.4g}"
        paired = np.abs(replayed) - np.abs(logged)
        yield f"MAE, replayed minus logged: {error_verdict(paired, np.concatenate(self._groups))}"
