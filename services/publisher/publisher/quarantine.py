"""Keeps rejected events with the reason, to be examined and sent again by `./task requeue`.

A label whose prediction is in quarantine is kept there too: the destination would ignore it.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from publisher.events import Kind
from publisher.header import Header

CURRENT = "rejected.jsonl"
OLDER = "rejected.older.jsonl"
EXPLANATION = "stopped.txt"
# The reason of what cannot be sent again.
DAMAGED = "damaged: "


class Quarantine:
    """Two files of bounded size: a full current file replaces the older one."""

    def __init__(self, directory: Path, max_bytes: int = 50_000_000) -> None:
        self._directory = directory
        self._max_bytes = max_bytes
        self._predictions: set[str] = set()
        self._files: list[tuple[int, int]] = []

    def refresh(self) -> bool:
        """Read what another process has changed; return whether predictions have left.

        Raises OSError.
        """
        files = self._status()
        if files == self._files:
            return False
        before, self._files = self._predictions, files
        self._predictions = {*self._read_predictions()}
        return bool(before - self._predictions)

    def holds(self, prediction: str) -> bool:
        """Return whether a prediction was here when `refresh` was called, or has come since."""
        return prediction in self._predictions

    def add(self, header: Header, kind: Kind, line: bytes, reason: str) -> int:
        """Append a spooled line and the reason for its rejection. Raises OSError.

        Returns the number of older events that were removed to make room.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        event = {
            "model": header.model,
            "version": header.version,
            "kind": kind,
            "rejected": reason,
            # Bytes that are not UTF-8 are escaped in a way that can be undone.
            "line": line.decode(errors="surrogateescape"),
        }
        with locked(self._directory):
            self._store_header(header)
            is_current = self._files == self._status()
            removed = self._make_room()
            with (self._directory / CURRENT).open("a") as file:
                file.write(json.dumps(event) + "\n")
            self._predictions |= {*_predictions([event])}
            if is_current and not removed:
                self._files = self._status()
        return removed

    def explain(self, reason: str) -> None:
        """Write why the destination rejects everything. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        (self._directory / EXPLANATION).write_text(reason + "\n", "utf-8")

    def _store_header(self, header: Header) -> None:
        """Keep what a new segment of these events starts with. Raises OSError."""
        path = header_file(self._directory, header.version)
        if not path.exists():
            path.write_text(header.model_dump_json(exclude_none=True) + "\n", "utf-8")

    def _status(self) -> list[tuple[int, int]]:
        """Return what changes with the files: their inodes and sizes."""
        paths = (self._directory / name for name in (OLDER, CURRENT))
        found = [path.stat() for path in paths if path.exists()]
        return [(each.st_ino, each.st_size) for each in found]

    def _read_predictions(self) -> Iterator[str]:
        for path in (self._directory / name for name in (OLDER, CURRENT)):
            if path.exists():
                with path.open("rb") as lines:
                    yield from _predictions(map(_entry, lines))

    def _make_room(self) -> int:
        current, older = self._directory / CURRENT, self._directory / OLDER
        if not current.exists() or current.stat().st_size <= self._max_bytes // 2:
            return 0
        removed = older.read_bytes().count(b"\n") if older.exists() else 0
        current.replace(older)
        return removed


def _entry(line: bytes) -> dict[str, str]:
    """Return an entry, or an empty one for a line that is none."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _predictions(entries: Iterable[dict[str, str]]) -> Iterator[str]:
    """Yield the ids of the predictions that can be sent again."""
    for entry in entries:
        is_damaged = entry.get("rejected", DAMAGED).startswith(DAMAGED)
        if entry.get("kind") == "prediction" and not is_damaged:
            with suppress(ValueError, LookupError, TypeError):  # somebody has edited the file
                yield str(json.loads(entry["line"])["prediction_id"])


def header_file(directory: Path, version: str) -> Path:
    """Return the path of the header of a version's events in quarantine."""
    return directory / f"header-{version}.json"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Exclude other writers of a quarantine while the block runs. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
