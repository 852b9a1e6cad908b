"""Read the spool, whose format serving/spool.py of the model service describes.

Two cursors move through each segment: the first reads predictions and skips labels, the second
follows it and reads labels only. Both offsets are stored in `position.json`.
"""

import errno
import fcntl
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from publisher.events import Kind
from publisher.header import DamagedHeaderError, Header, UnknownHeaderError, read_header

SUFFIX = ".jsonl"
PUBLISHED_SUFFIX = ".published.jsonl"
UNREADABLE_SUFFIX = ".unreadable"
POSITION_FILE = "position.json"
LABEL = b'{"label_of":'
_CHUNK_BYTES = 1 << 20

log = logging.getLogger(__name__)


class SpoolError(Exception):
    """The spool cannot be read; the message is one line."""


@dataclass(frozen=True)
class Segment:
    """A file of events."""

    path: Path
    header: Header
    start: int
    """Offset of the first event, in bytes."""

    @property
    def name(self) -> str:
        """The file's name; names sort by time."""
        return self.path.name

    def size(self) -> int:
        """Return the bytes written so far, 0 once the segment has been dropped."""
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
    """Lines that the prediction cursor has passed."""
    labels_waiting: int = 0
    """Labels that the prediction cursor has passed and the label cursor has not."""

    def offset(self, kind: Kind) -> int:
        """Return the offset of the cursor that reads events of a kind."""
        return self.labels if kind == "label" else self.predictions


@dataclass(frozen=True)
class LinesRead:
    """Complete lines of one kind, and the offset of the next read."""

    lines: list[bytes]
    offset: int
    passed: int
    """Number of lines up to `offset`, including those of the other kind."""


def read_lines(path: Path, start: int, end: int, limit: int, *, labels: bool) -> LinesRead:
    """Return up to `limit` predictions (or labels) between two offsets.

    Stops before an incomplete line. A line of spaces was an event that has been erased. A segment
    that has been dropped has no lines.
    """
    lines: list[bytes] = []
    offset = start
    passed = 0
    for line in _lines(path, start, end):
        if line.startswith(LABEL) == labels and not line.isspace():
            lines.append(line)
        offset += len(line) + 1
        passed += 1
        if len(lines) == limit:
            break
    return LinesRead(lines, offset, passed)


def _lines(path: Path, start: int, end: int) -> Iterable[bytes]:
    """Yield the complete lines between two offsets, without their line feed."""
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
    """The unpublished segments of a directory, and the position in each.

    Raises SpoolError, also if another publisher already reads the spool.
    """

    def __init__(self, directory: Path, *, keep: bool) -> None:
        self.directory = directory
        self._keep = keep
        self._segments: dict[str, Segment] = {}
        self.unknown: frozenset[str] = frozenset()
        """Segments whose header only a newer publisher understands; they stay in the spool."""
        self.save_failures = 0
        """How often the position file could not be written."""
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _check_writable(directory)
            # The directory itself is locked: a full disk has no room for a lock file.
            self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolError(f"{directory}: another publisher reads this spool") from None
        except OSError as error:
            raise SpoolError(f"{directory}: {error.strerror}") from error
        self.positions = _read_positions(directory / POSITION_FILE)

    def close(self) -> None:
        """Release the lock on the spool."""
        os.close(self._lock)

    def segments(self) -> list[Segment]:
        """Return the unpublished segments, oldest first."""
        names = sorted(
            path.name
            for path in self.directory.glob(f"*{SUFFIX}")
            if not path.name.endswith(PUBLISHED_SUFFIX)
        )
        self._forget(self._segments.keys() - set(names))
        self.unknown &= frozenset(names)
        return [segment for segment in map(self._segment, names) if segment]

    def unreadable(self) -> int:
        """Return the number of segments that were set aside because of a damaged header."""
        return len([*self.directory.glob(f"*{UNREADABLE_SUFFIX}")])

    def position(self, segment: Segment) -> Position:
        """Return how far a segment has been published."""
        return self.positions.get(segment.name, Position(segment.start, segment.start))

    def advance(self, segment: Segment, kind: Kind, found: LinesRead) -> None:
        """Store that the events of a kind, up to the end of what was read, have been published."""
        position = self.position(segment)
        if kind == "label":
            waiting = position.labels_waiting - len(found.lines)
            moved = replace(position, labels=found.offset, labels_waiting=waiting)
        else:
            moved = replace(
                position,
                predictions=found.offset,
                lines=position.lines + found.passed,
                labels_waiting=position.labels_waiting + found.passed - len(found.lines),
            )
        self._record(segment, moved)

    def finish(self, segment: Segment) -> bool:
        """Remove, or rename if it is to be kept, a segment that is published and closed."""
        position = self.position(segment)
        done = min(position.predictions, position.labels)
        if _has_line(segment, done) or not is_closed(segment.path) or _has_line(segment, done):
            return False
        self.remove(segment)
        return True

    def remove(self, segment: Segment) -> None:
        """Remove, or rename if it is to be kept, a segment of which everything is published."""
        if self._keep:
            segment.path.rename(segment.path.with_suffix(PUBLISHED_SUFFIX))
        else:
            segment.path.unlink(missing_ok=True)
        self._forget([segment.name])
        self._save()

    def _segment(self, name: str) -> Segment | None:
        if name not in self._segments and name not in self.unknown:
            self._open(name)
        return self._segments.get(name)

    def _open(self, name: str) -> None:
        path = self.directory / name
        first = next(iter(_lines(path, 0, _CHUNK_BYTES)), b"")
        try:
            self._segments[name] = Segment(path, read_header(first), len(first) + 1)
        except UnknownHeaderError as error:
            self.unknown |= {name}
            log.error("%s waits for a newer publisher: %s", path, error)  # noqa: TRY400
        except DamagedHeaderError as error:
            if path.exists():  # otherwise a worker has just dropped it
                _set_aside(path, error)

    def _record(self, segment: Segment, position: Position) -> None:
        self.positions = {**self.positions, segment.name: position}
        self._save()

    def _forget(self, names: Iterable[str]) -> None:
        for name in set(names):
            self._segments.pop(name, None)
            self.positions = {key: each for key, each in self.positions.items() if key != name}

    def _save(self) -> None:
        """Replace the position file atomically, so that a power failure cannot corrupt it.

        A full disk must not stop the publisher, which makes room by removing segments. Without a
        stored position a restart sends events again.
        """
        text = json.dumps({name: asdict(each) for name, each in self.positions.items()})
        unfinished = self.directory / f"{POSITION_FILE}.new"
        try:
            with unfinished.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(self.directory / POSITION_FILE)
        except OSError as error:
            self.save_failures += 1
            log.warning("the position was not stored, events may be sent twice: %s", error)


def _check_writable(directory: Path) -> None:
    """Raise OSError if files cannot be created here, except because the disk is full."""
    probe = directory / f"{POSITION_FILE}.probe"
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_WRONLY))
        probe.unlink()
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


def _read_positions(path: Path) -> dict[str, Position]:
    """Return the stored positions, none if there is no valid file: all is published again then."""
    try:
        stored = json.loads(path.read_text())
        return {name: Position(**each) for name, each in stored.items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        log.warning("%s is unreadable, the whole spool is published again: %s", path, error)
        return {}


def _has_line(segment: Segment, offset: int) -> bool:
    return any(True for _ in _lines(segment.path, offset, segment.size()))


def is_closed(path: Path) -> bool:
    """Return whether the worker that wrote a segment has closed it or died."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        return True
    return True


def _set_aside(path: Path, error: DamagedHeaderError) -> None:
    aside = path.with_suffix(UNREADABLE_SUFFIX)
    log.error("%s has a damaged header (%s), renamed to %s", path, error, aside.name)
    path.replace(aside)
