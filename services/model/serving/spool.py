"""The spool: every prediction, and later its label, is written to disk before it is answered.

A reader (the publisher, an audit, a retraining) never delays a prediction.

Format 1. A spool is a directory of segments, `<ns since 1970, 20 digits>-<8 hex digits>.jsonl`,
UTF-8. The first line of a segment is its header, which describes the other lines:

    {"spool":1,"model":"loans","version":"3f…","task":"regression",
     "features":[{"name":"ph","type":"number","minimum":2.7,"maximum":4.0},…],
     "prediction":{"minimum":4.3,"maximum":7.2},"target":{"name":"quality",…}}

Minimum and maximum are those of the training rows; those of the target are its allowed range. Each
other line is an event:

    {"prediction_id":"…","time":1764000000.25,"features":[3.5,null,…],"prediction":5.6}
    {"label_of":"…","time":1764000900.5,"version":"3f…","actual":6.0}

`features` are in the header's order, null where missing; `time` is in seconds since 1970;
`version` is that of the model that made the prediction.

One worker appends to a segment and holds an exclusive flock on it while it may grow. A last line
without a line feed is incomplete: its answer was not sent, or it was counted as failed. A label is
written after its prediction, possibly to another worker's segment. The publisher removes a segment
after publishing it, or renames it to `….published.jsonl` to keep it. Written events survive the
death of any process, but not a crash of the machine, because nothing is fsynced.

If the bundle contains reference rows, the directory also has `reference-<version>.csv`, with a
column for each feature, for the target and for the `prediction`.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from bundle.manifest import PREDICTION, REFERENCE_FILE, Manifest, Quantity, Reference
from serving.events import Label, Prediction

FORMAT = 1
SUFFIX = ".jsonl"
PUBLISHED_SUFFIX = ".published.jsonl"
_UNFINISHED_SUFFIX = ".new"
_NO_SEGMENT = -1
# A segment is unfinished for microseconds; an older one belongs to a worker that was killed then.
_UNFINISHED_SECONDS = 60.0
# After a failure nothing is written for this time, because the disk is probably still full.
_RETRY_SECONDS = 1.0

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


class Spool:
    """Appends one worker's events. Not thread-safe.

    It never raises: events that cannot be written are counted, and predictions are answered anyway.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        limits: Limits,
        count: Callable[[Outcome, int], None],
    ) -> None:
        self._directory = directory
        self._header = _header(manifest)
        self._limits = limits
        self._count = count
        self._encoder = msgspec.json.Encoder()
        self._descriptor = _NO_SEGMENT
        self._size = 0
        self._closes_at = 0.0
        self._retries_at = 0.0

    def append(self, events: Sequence[Prediction | Label]) -> None:
        """Write events with one system call, so that they survive the death of this process.

        Each event is counted as `written`, or as `failed` if the disk rejected it. Events that a
        full spool loses, oldest first, are counted as `dropped`.
        """
        if not events:
            return
        now = time.monotonic()
        if now < self._retries_at:
            self._count("failed", len(events))
            return
        written = 0
        try:
            lines = self._encoder.encode_lines(events)
            if now >= self._closes_at or self._size + len(lines) > self._limits.segment_bytes:
                self._begin_segment(len(lines), now)
            size = os.write(self._descriptor, lines)
            self._size += size
            written = len(events) if size == len(lines) else lines.count(b"\n", 0, size)
            if written < len(events):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        except Exception as error:  # noqa: BLE001 the prediction is answered anyway
            self._fail(len(events) - written, error, now)
        self._count("written", written)

    def close(self) -> None:
        """Close the segment, so that readers do not wait for more of it."""
        if self._descriptor != _NO_SEGMENT:
            os.close(self._descriptor)
            self._descriptor, self._closes_at = _NO_SEGMENT, 0.0

    def _fail(self, events: int, error: Exception, now: float) -> None:
        """Count the lost events and close the segment: no line may follow an incomplete one."""
        self._count("failed", events)
        log.error("%d events were not spooled: %s", events, error)
        self._retries_at = now + _RETRY_SECONDS
        self.close()

    def _begin_segment(self, wanted: int, now: float) -> None:
        """Start a new segment with room for `wanted` bytes. Raises OSError."""
        self.close()
        _make_room(self._directory, self._limits, wanted, self._count)
        self._descriptor = _begin(self._directory, self._header)
        self._size = len(self._header)
        self._closes_at = now + self._limits.segment_seconds


def place_reference(directory: Path, bundle: Path, manifest: Manifest) -> None:
    """Copy the bundle's reference rows, if it has any, to the spool for its readers.

    Raises OSError.
    """
    if REFERENCE_FILE not in manifest.files:
        return
    path = directory / f"reference-{manifest.version}.csv"
    unfinished = directory / f"{path.name}.{os.getpid()}"
    unfinished.write_bytes((bundle / REFERENCE_FILE).read_bytes())
    unfinished.replace(path)


def _begin(directory: Path, header: bytes) -> int:
    """Return the descriptor of a new segment, which is locked and has its header."""
    path = directory / f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
    unfinished = path.with_suffix(_UNFINISHED_SUFFIX)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.write(descriptor, header) < len(header):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        unfinished.rename(path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _make_room(
    directory: Path, limits: Limits, wanted: int, count: Callable[[Outcome, int], None]
) -> None:
    """Remove segments until another one fits: published ones first, then the oldest.

    Open segments are not removed, and count as if they were full. Raises OSError.
    """
    _remove_unfinished(directory)
    closed: list[tuple[bool, Path, int]] = []
    total = max(limits.segment_bytes, wanted)
    for path in directory.glob(f"*{SUFFIX}"):
        size, is_open = _inspect(path)
        total += max(size, limits.segment_bytes) if is_open else size
        if not is_open:
            closed.append((not path.name.endswith(PUBLISHED_SUFFIX), path, size))
    for waiting, path, size in sorted(closed):
        if total <= limits.max_bytes:
            return
        events = _remove(path)
        total -= size
        if waiting and events:
            count("dropped", events)
            log.error("the spool is full: %d events not yet published were dropped", events)
    if total > limits.max_bytes:
        raise OSError(errno.ENOSPC, "the open segments alone fill the spool")


def _inspect(path: Path) -> tuple[int, bool]:
    """Return a segment's size in bytes and whether a worker writes to it.

    The size of a segment that no longer exists is 0.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return 0, False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_open = False
    except BlockingIOError:
        is_open = True
    finally:
        size = os.fstat(descriptor).st_size
        os.close(descriptor)
    return size, is_open


def _remove(path: Path) -> int:
    """Remove a segment and return the number of its events, or 0 if it no longer exists."""
    try:
        content = path.read_bytes()
        path.unlink()
    except FileNotFoundError:
        return 0
    return max(0, content.count(b"\n") - 1)


def _remove_unfinished(directory: Path) -> None:
    """Remove the segments of workers that were killed before writing a header."""
    for path in directory.glob(f"*{_UNFINISHED_SUFFIX}"):
        try:
            if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                path.unlink()
        except FileNotFoundError:
            continue


def _header(manifest: Manifest) -> bytes:
    """Return the first line of this model's segments."""
    seen = {each.name: _seen(each) for each in manifest.reference}
    header = {
        "spool": FORMAT,
        "model": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "features": [
            {"name": each.name, "type": each.type, **seen[each.name]} for each in manifest.features
        ],
        "prediction": seen[PREDICTION],
        "target": _possible(manifest.target),
    }
    return json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _seen(reference: Reference) -> dict[str, float]:
    return {"minimum": reference.minimum, "maximum": reference.maximum}


def _possible(target: Quantity) -> dict[str, Any]:
    return target.model_dump(include={"name", "minimum", "maximum"}, exclude_none=True)
