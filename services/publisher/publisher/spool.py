"""Read the spool, whose format serving/spool.py of the model service describes.

Two cursors go through each segment: one takes predictions and passes over labels, the other, behind
it, takes labels only. Where both stand is noted in `position.json`.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

SUFFIX = ".jsonl"
PUBLISHED_SUFFIX = ".published.jsonl"
UNREADABLE_SUFFIX = ".unreadable"
POSITION_FILE = "position.json"
LOCK_FILE = "publisher.lock"
_LABEL = b'{"label_of":'
_CHUNK_BYTES = 1 << 20

log = logging.getLogger(__name__)


class SpoolError(Exception):
    """The spool cannot be read; the message is one line."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True)


class Range(_Strict):
    """Which values occur, both ends inclusive."""

    minimum: float | None = None
    maximum: float | None = None


class Column(Range):
    """A feature, or the target."""

    name: str
    type: Literal["number", "integer"] = "number"


class Header(_Strict):
    """A segment's first line: the model whose predictions follow."""

    spool: Literal[1]
    model: str
    version: str
    task: Literal["regression"]
    features: tuple[Column, ...]
    prediction: Range
    target: Column


@dataclass(frozen=True)
class Segment:
    """One file of events."""

    path: Path
    header: Header
    start: int
    """Offset of the first event, in bytes."""

    @property
    def name(self) -> str:
        """The file's name, in order of time."""
        return self.path.name

    def size(self) -> int:
        """Return the bytes written so far; 0 once the segment has been dropped."""
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0


@dataclass(frozen=True)
class Position:
    """How far a segment has been published: offsets of both cursors, in bytes."""

    predictions: int
    labels: int
    lines: int = 0
    """Lines that the predictions' cursor has passed."""
    labels_waiting: int = 0
    """Labels that it has passed and the labels' cursor has not."""


@dataclass(frozen=True)
class Taken:
    """Whole lines of one kind, and where reading goes on."""

    lines: list[bytes]
    offset: int
    passed: int
    """All lines up to `offset`, those of the other kind included."""


def take(path: Path, start: int, end: int, limit: int, *, labels: bool) -> Taken:
    """Return up to `limit` predictions (or labels) between two offsets.

    Stops before a line that is not whole. A segment that has been dropped has no lines.
    """
    lines: list[bytes] = []
    offset = start
    passed = 0
    for line in _lines(path, start, end):
        if line.startswith(_LABEL) == labels:
            lines.append(line)
        offset += len(line) + 1
        passed += 1
        if len(lines) == limit:
            break
    return Taken(lines, offset, passed)


def _lines(path: Path, start: int, end: int) -> Iterable[bytes]:
    """Yield the whole lines between two offsets, without their line feed."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            rest = b""
            while start < end and (chunk := file.read(min(_CHUNK_BYTES, end - start))):
                start += len(chunk)
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
    except FileNotFoundError:
        return


class Spool:
    """The waiting segments of a directory, and how far each has been published.

    Only one publisher reads a spool: the second is refused. Raises SpoolError.
    """

    def __init__(self, directory: Path, *, keep: bool) -> None:
        self.directory = directory
        self._keep = keep
        self._segments: dict[str, Segment] = {}
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(directory / LOCK_FILE, os.O_CREAT | os.O_RDWR, 0o640)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError(f"{directory}: another publisher reads this spool") from None
        except OSError as error:
            raise SpoolError(f"{directory}: {error.strerror}") from error
        self.positions = _read_positions(directory / POSITION_FILE)

    def close(self) -> None:
        """Let another publisher read the spool."""
        os.close(self._lock)

    def segments(self) -> list[Segment]:
        """Return the segments that wait, the oldest first."""
        names = sorted(
            path.name
            for path in self.directory.glob(f"*{SUFFIX}")
            if not path.name.endswith(PUBLISHED_SUFFIX)
        )
        self._forget(self._segments.keys() - set(names))
        return [segment for segment in map(self._segment, names) if segment]

    def position(self, segment: Segment) -> Position:
        """Return how far a segment has been published."""
        return self.positions.get(segment.name, Position(segment.start, segment.start))

    def passed_predictions(self, segment: Segment, taken: Taken) -> None:
        """Note that these predictions have been published."""
        position = self.position(segment)
        self._note(
            segment,
            replace(
                position,
                predictions=taken.offset,
                lines=position.lines + taken.passed,
                labels_waiting=position.labels_waiting + taken.passed - len(taken.lines),
            ),
        )

    def passed_labels(self, segment: Segment, taken: Taken) -> None:
        """Note that these labels have been published."""
        position = self.position(segment)
        waiting = position.labels_waiting - len(taken.lines)
        self._note(segment, replace(position, labels=taken.offset, labels_waiting=waiting))

    def finish(self, segment: Segment) -> bool:
        """Remove (or keep aside) a segment that is published and that nobody writes any more."""
        position = self.position(segment)
        done = min(position.predictions, position.labels)
        if _any_line(segment, done) or not _closed(segment.path) or _any_line(segment, done):
            return False
        if self._keep:
            segment.path.rename(segment.path.with_suffix(PUBLISHED_SUFFIX))
        else:
            segment.path.unlink(missing_ok=True)
        self._forget([segment.name])
        self._save()
        return True

    def _segment(self, name: str) -> Segment | None:
        if name not in self._segments:
            path = self.directory / name
            try:
                first = next(iter(_lines(path, 0, _CHUNK_BYTES)), b"")
                header = Header.model_validate_json(first)
            except ValidationError as error:
                if path.exists():  # else it was dropped just now
                    _set_aside(path, error)
                return None
            self._segments[name] = Segment(path, header, len(first) + 1)
        return self._segments[name]

    def _note(self, segment: Segment, position: Position) -> None:
        self.positions = {**self.positions, segment.name: position}
        self._save()

    def _forget(self, names: Iterable[str]) -> None:
        for name in set(names):
            self._segments.pop(name, None)
            self.positions = {key: each for key, each in self.positions.items() if key != name}

    def _save(self) -> None:
        """Replace the note at once; a machine that loses power has the old one or the new."""
        text = json.dumps({name: asdict(each) for name, each in self.positions.items()})
        unfinished = self.directory / f"{POSITION_FILE}.new"
        with unfinished.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(self.directory / POSITION_FILE)


def _read_positions(path: Path) -> dict[str, Position]:
    """Return what was noted. Without a note all is published again: Fiddler knows the ids."""
    try:
        noted = json.loads(path.read_text())
        return {name: Position(**each) for name, each in noted.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s is unreadable, all that waits is published again: %s", path, error)
        return {}


def _any_line(segment: Segment, offset: int) -> bool:
    return any(True for _ in _lines(segment.path, offset, segment.size()))


def _closed(path: Path) -> bool:
    """Tell whether the worker that wrote a segment has closed it, or died."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _set_aside(path: Path, error: ValidationError) -> None:
    aside = path.with_suffix(UNREADABLE_SUFFIX)
    first = error.errors(include_url=False, include_input=False)[0]
    log.error("%s has no header this publisher reads (%s): now %s", path, first["msg"], aside.name)
    path.replace(aside)
