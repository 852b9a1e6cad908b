"""What the comparison needs of a prediction log, a part at a time."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from publisher.events import Label, Prediction, Value
from publisher.header import Category, Column, Header, to_text

PART = 1_000
_RECENT = 100 * PART

Row = tuple[Value, ...]
Groups = NDArray[np.int64]
"""Numbers (n,) that equal rows share."""


class ReplayError(Exception):
    """The comparison is impossible; the message is one line."""


class Codes:
    """Numbers for the classes of all versions and of the other model."""

    def __init__(self) -> None:
        self._classes: list[Category] = []
        self._codes: dict[tuple[bool, Category], float] = {}

    def code(self, of_class: Category) -> float:
        """Return the number of a class, the same for 1 and 1.0; True is another one."""
        key = isinstance(of_class, bool), of_class
        if key not in self._codes:
            self._codes[key] = float(len(self._classes))
            self._classes.append(of_class)
        return self._codes[key]

    def name(self, code: float) -> str:
        """Return a class as text."""
        return to_text(self._classes[int(code)])


@dataclass(frozen=True)
class Part:
    """Predictions of one version: rows with the features' columns, and keys.

    `predictions` (n,) are numbers or, if the version has `classes`, the codes of classes.
    """

    version: str
    columns: Sequence[Column]
    classes: Sequence[Category]
    keys: list[int]
    rows: list[Row]
    predictions: Floats

    @property
    def names(self) -> list[str]:
        """The names of the features."""
        return [column.name for column in self.columns]


@dataclass
class Damage:
    """What could not be read."""

    lines: int = 0
    files: int = 0

    def __str__(self) -> str:
        return f"{self.lines} damaged lines, {self.files} damaged files"


class Log(ABC):
    """A prediction log of any size. Reading counts what is damaged."""

    damage: Damage
    codes: Codes

    def __init__(self) -> None:
        self.damage = Damage()
        self.codes = Codes()

    @abstractmethod
    def predictions(self) -> Iterator[tuple[Header, Iterable[Prediction]]]:
        """Yield the predictions in the order in which they were spooled, some at a time."""

    @abstractmethod
    def label_events(self) -> Iterator[tuple[Header, Iterable[Label]]]:
        """Yield the labels, some at a time."""

    def parts(self) -> Iterator[Part]:
        """Yield the predictions, each once, in parts of at most 1,000."""
        seen = Seen()
        for header, events in self.predictions():
            for chunk in _chunks(events):
                keys = [_key(each.prediction_id) for each in chunk]
                new = seen.add(keys)
                chosen = [each for each, is_new in zip(chunk, new, strict=True) if is_new]
                if chosen:
                    yield Part(
                        header.version,
                        header.features,
                        header.target.classes,
                        [key for key, is_new in zip(keys, new, strict=True) if is_new],
                        [each.features for each in chosen],
                        np.array([self._outcome(header, each.prediction) for each in chosen]),
                    )

    def labels(self) -> "Labels":
        """Return every label, the latest one of each prediction, in 24 bytes each."""
        keys, times, actual = _Column(np.uint64), _Column(np.float64), _Column(np.float64)
        for header, events in self.label_events():
            for each in events:
                keys.append(_key(each.label_of))
                times.append(each.time)
                actual.append(self._outcome(header, each.actual))
        return Labels(keys.array(), times.array(), actual.array())

    def _outcome(self, header: Header, value: Category) -> float:
        return self.codes.code(value) if header.target.classes else float(value)


class Seen:
    """Keys that have been seen before, most of them in 8 bytes each."""

    def __init__(self) -> None:
        self._sorted = np.array([], dtype=np.uint64)
        self._recent: set[int] = set()

    def add(self, keys: list[int]) -> list[bool]:
        """Return for each key whether it is new: an event that was requeued comes twice."""
        new = [self._add(key, old) for key, old in zip(keys, self._are_old(keys), strict=True)]
        if len(self._recent) >= _RECENT:
            recent = np.array([*self._recent], dtype=np.uint64)
            self._sorted = np.sort(np.concatenate([self._sorted, recent]))
            self._recent.clear()
        return new

    def _add(self, key: int, old: bool) -> bool:  # noqa: FBT001 of an array
        if old or key in self._recent:
            return False
        self._recent.add(key)
        return True

    def _are_old(self, keys: list[int]) -> list[bool]:
        if not len(self._sorted):
            return [False] * len(keys)
        wanted = np.array(keys, dtype=np.uint64)
        at = np.searchsorted(self._sorted, wanted, side="right") - 1
        found: list[bool] = ((at >= 0) & (self._sorted[at] == wanted)).tolist()
        return found


class Labels:
    """True values, or codes of true classes, by the key of their prediction."""

    def __init__(self, keys: NDArray[np.uint64], times: Floats, actual: Floats) -> None:
        order = np.lexsort((times, keys))
        self._keys, self._actual = keys[order], actual[order]

    def find(self, keys: list[int]) -> Floats:
        """Return the true values (n,), NaN where there is none."""
        wanted = np.array(keys, dtype=np.uint64)
        if not len(self._keys):
            return np.full(len(wanted), np.nan)
        # The last of equal keys is the latest label.
        at = np.searchsorted(self._keys, wanted, side="right") - 1
        found = (at >= 0) & (self._keys[at] == wanted)
        return np.where(found, self._actual[at], np.nan)


class _Column:
    """Values that are collected into arrays, without an object for each."""

    def __init__(self, type_: type) -> None:
        self._type = type_
        self._full: list[NDArray[Any]] = []
        self._last: list[float] = []

    def append(self, value: float) -> None:
        self._last.append(value)
        if len(self._last) == _RECENT:
            self._full.append(np.array(self._last, dtype=self._type))
            self._last = []

    def array(self) -> NDArray[Any]:
        return np.concatenate([*self._full, np.array(self._last, dtype=self._type)])


def group_of(part: Part, chosen: NDArray[np.bool_]) -> Groups:
    """Return the groups of the chosen rows."""
    return np.array([hash(part.rows[index]) for index in np.flatnonzero(chosen)], dtype=np.int64)


def _chunks(events: Iterable[Prediction]) -> Iterator[list[Prediction]]:
    chunk: list[Prediction] = []
    for event in events:
        chunk.append(event)
        if len(chunk) == PART:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _key(prediction_id: str) -> int:
    """Return 8 bytes of a hash: of a million ids, two have the same with a chance of 3e-8."""
    return int.from_bytes(hashlib.blake2b(prediction_id.encode(), digest_size=8).digest())
