"""Erase predictions and labels from a spool, by id, while others write to it and read it."""

import fcntl
import json
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from publisher.quarantine import CURRENT, OLDER, locked
from publisher.spool import SUFFIX, UNREADABLE_SUFFIX, is_closed

QUARANTINE = "quarantine"
_EVENT = re.compile(
    rb'^\{"(?:prediction_id|label_of)":"((?:[^"\\\n]|\\.)*)"[^\n]*(?=\n)', re.MULTILINE
)


def erase_lines(directory: Path, ids: Collection[str]) -> list[str]:
    """Erase ids from the segments of a directory and return the id of each erased line.

    A line is overwritten with spaces where it is, which readers skip. So every hard link to the
    segment loses it, offsets stay right, and a worker may append meanwhile. Raises OSError.
    """
    wanted = {_escaped(each): each for each in ids}
    erased: list[str] = []
    for suffix in (SUFFIX, UNREADABLE_SUFFIX):
        for path in sorted(directory.glob(f"*{suffix}")):
            erased += _erase_from(path, wanted)
    return erased


def _escaped(each: str) -> bytes:
    """Return an id as it is written in a line."""
    return json.dumps(each, ensure_ascii=False)[1:-1].encode()


def _erase_from(path: Path, wanted: dict[bytes, str]) -> list[str]:
    try:
        content = path.read_bytes()
        found = [each for each in _EVENT.finditer(content) if each[1] in wanted]
        if found:
            _overwrite(path, [each.span() for each in found])
    except FileNotFoundError:  # published, or dropped by a worker
        return []
    return [wanted[each[1]] for each in found]


def _overwrite(path: Path, spans: list[tuple[int, int]]) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        for start, end in spans:
            os.pwrite(descriptor, b" " * (end - start), start)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def erase_quarantined(directory: Path, ids: Collection[str]) -> list[str]:
    """Erase ids from a quarantine and return the id of each erased entry. Raises OSError."""
    if not directory.is_dir():
        return []
    wanted = {_escaped(each): each for each in ids}
    with locked(directory):
        return [
            each for name in (CURRENT, OLDER) for each in _erase_entries(directory / name, wanted)
        ]


def _erase_entries(path: Path, wanted: dict[bytes, str]) -> list[str]:
    if not path.exists():
        return []
    entries = path.read_bytes().splitlines(keepends=True)
    ids = [wanted.get(_id_of(entry)) for entry in entries]
    erased = [each for each in ids if each is not None]
    if erased:
        left = b"".join(entry for entry, each in zip(entries, ids, strict=True) if each is None)
        _replace(path, left)
    return erased


def _id_of(entry: bytes) -> bytes:
    """Return the id of an entry's event as it is written, empty if it is none."""
    try:
        line: bytes = json.loads(entry)["line"].encode(errors="surrogateescape")
    except (ValueError, LookupError, TypeError, AttributeError):
        return b""
    found = _EVENT.match(line + b"\n")
    return found[1] if found else b""


def _replace(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f"{path.name}.new")
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def closed_segments(directory: Path) -> Iterator[str]:
    """Yield the names of the segments that no worker writes to."""
    yield from (
        path.name.removesuffix(SUFFIX)
        for path in directory.glob(f"*{SUFFIX}")
        if path.exists() and is_closed(path)
    )


def is_read(directory: Path) -> bool:
    """Return whether a publisher reads this spool. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
