"""The room that the spool takes: the oldest segments go when another one would exceed it."""

import errno
import fcntl
import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SUFFIX = ".jsonl"
PUBLISHED_SUFFIX = ".published.jsonl"
UNFINISHED_SUFFIX = ".new"
# A segment is unfinished for microseconds; an older one belongs to a worker that was killed then.
_UNFINISHED_SECONDS = 60.0

Outcome = Literal["written", "failed", "dropped"]
OUTCOMES: tuple[Outcome, ...] = ("written", "failed", "dropped")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """The maximum size of a spool, and the size and age at which a segment is closed.

    `max_bytes` applies to all workers together. If several workers start a segment at the same
    time, the spool may briefly exceed it by one segment per worker.
    """

    max_bytes: int
    segment_bytes: int
    segment_seconds: float


@dataclass
class _Stored:
    """A segment on the disk: its size in bytes, and the links that readers still have."""

    size: int
    is_open: bool
    links: list[Path] = field(default_factory=list)

    @property
    def waits(self) -> bool:
        """Whether a reader has not published it yet."""
        return not all(each.name.endswith(PUBLISHED_SUFFIX) for each in self.links)


def make_room(
    directories: Sequence[Path],
    limits: Limits,
    wanted: int,
    count: Callable[[Outcome, int], None],
) -> None:
    """Remove segments until another one fits: published ones first, then the oldest.

    A segment counts once, however many links it has, and is removed from all directories. Open
    segments are not removed, and count as if they were full. Raises OSError.
    """
    _remove_unfinished(directories[0])
    stored = _stored(directories)
    total = max(limits.segment_bytes, wanted) + sum(
        max(each.size, limits.segment_bytes) if each.is_open else each.size for each in stored
    )
    closed = [each for each in stored if not each.is_open]
    for segment in sorted(closed, key=lambda each: (each.waits, each.links[0].name)):
        if total <= limits.max_bytes:
            return
        total -= segment.size
        events = _remove(segment.links)
        if segment.waits and events:
            count("dropped", events)
            log.error("the spool is full: %d events not yet published were dropped", events)
    if total > limits.max_bytes:
        raise OSError(errno.ENOSPC, "the open segments alone fill the spool")


def _stored(directories: Sequence[Path]) -> list[_Stored]:
    """Return every segment, with its links in all directories. Raises OSError."""
    found: dict[int, _Stored] = {}
    for path in (path for each in directories for path in each.glob(f"*{SUFFIX}")):
        try:
            inode, size, is_open = _inspect(path)
        except FileNotFoundError:  # its reader has published it just now
            continue
        found.setdefault(inode, _Stored(size, is_open)).links.append(path)
    return [*found.values()]


def _inspect(path: Path) -> tuple[int, int, bool]:
    """Return a segment's inode, its size in bytes and whether a worker writes to it.

    Raises FileNotFoundError.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_open = False
    except BlockingIOError:
        is_open = True
    finally:
        status = os.fstat(descriptor)
        os.close(descriptor)
    return status.st_ino, status.st_size, is_open


def _remove(links: Sequence[Path]) -> int:
    """Remove a segment and return the number of its events, or 0 if it no longer exists."""
    content = b""
    for path in links:
        try:
            content = path.read_bytes()
            path.unlink()
        except FileNotFoundError:
            continue
    return max(0, content.count(b"\n") - 1)


def _remove_unfinished(directory: Path) -> None:
    """Remove the segments of workers that were killed before writing a header."""
    for path in directory.glob(f"*{UNFINISHED_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()
        except FileNotFoundError:
            continue
