"""The spool: every prediction, and later its label, is written to disk before it is answered.

A reader (the publisher, an audit, a retraining) never delays a prediction.

Format 1. A spool is a directory of segments, `<ns since 1970, 20 digits>-<8 hex digits>.jsonl`,
UTF-8. The first line of a segment is its header, which describes the other lines:

    {"spool":1,"model":"loans","version":"3f…","task":"regression",
     "features":[{"name":"ph","type":"number","minimum":2.7,"maximum":4.0},…],
     "prediction":{"minimum":4.3,"maximum":7.2},"target":{"name":"quality",…},
     "crc32":"0a1b2c3d"}

Minimum and maximum are those of the training rows; those of the target are its allowed range. A
category has `categories` instead, those that training saw, and a feature that is not monitored has
neither. Of a classification, the target has `classes`, and the prediction has no range, but
`"probabilities":true` if the model has them. The last member is the CRC-32 of the line without this
member, so that a damaged header is noticed before events are sent to the wrong model or columns.
Each other line is an event:

    {"prediction_id":"…","time":1764000000.25,"features":[3.5,null,…],"prediction":5.6}
    {"label_of":"…","time":1764000900.5,"version":"3f…","actual":6.0}

`features` are in the header's order, null where missing, a datetime in seconds since 1970; so is
`time`. `version` is that of the model that made the prediction. The prediction and the label of a
classification are classes; `"probabilities":[0.1,…]` follows the prediction, in the order of the
classes, if the model has them. Excluded features are neither in the header nor in an event.

One worker appends to a segment and holds an exclusive flock on it while it may grow. A last line
without a line feed is incomplete: its answer was not sent, or it was counted as failed. A label is
written after its prediction, possibly to another worker's segment. Each reader has a directory of
its own with a hard link to every segment, so that none waits for another. It removes its link after
publishing the segment, or renames it to `….published.jsonl` to keep it. Written events survive the
death of any process, but not a crash of the machine, because nothing is fsynced. Files are readable
by their user only.

If the bundle contains reference rows, each directory also has `reference-<version>.csv`, with a
column for each feature, for the target and for the `prediction`, and of a classification with
probabilities usually `probability_<class>` for each class.
"""

import errno
import fcntl
import json
import logging
import os
import secrets
import time
import zlib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bundle.manifest import PREDICTION, Feature, Manifest, Reference
from serving.events import Label, Prediction
from serving.spool_room import SUFFIX, UNFINISHED_SUFFIX, Limits, Outcome, make_room

FORMAT = 1
# Rows may be confidential. The publisher runs as the same user.
MODE = 0o600
_NO_SEGMENT = -1
# After a failure nothing is written for this time, because the disk is probably still full.
_RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


class Spool:
    """Appends one worker's events. Not thread-safe.

    It never raises: events that cannot be written are counted, and predictions are answered anyway.
    """

    def __init__(
        self,
        directories: Sequence[Path],
        manifest: Manifest,
        limits: Limits,
        count: Callable[[Outcome, int], None],
        excluded: Collection[str] = (),
    ) -> None:
        self._directories = directories
        self._header = _header(manifest, excluded)
        self._kept = _kept(manifest, excluded)
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
            if self._kept is not None:
                events = [_without(each, self._kept) for each in events]
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

    def close_if_old(self) -> None:
        """Close a segment that has reached its maximum age, also if no event follows."""
        if time.monotonic() >= self._closes_at:
            self.close()

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
        for each in self._directories:
            each.mkdir(parents=True, exist_ok=True)
        make_room(self._directories, self._limits, wanted, self._count)
        self._descriptor = _begin(self._directories, self._header)
        self._size = len(self._header)
        self._closes_at = now + self._limits.segment_seconds


def check_excluded(manifest: Manifest, excluded: Collection[str]) -> None:
    """Raise ValueError if a model does not have all excluded features: a name may be misspelt."""
    if unknown := {*excluded} - {each.name for each in manifest.features}:
        raise ValueError(
            f"MODEL_SPOOL_EXCLUDE: {min(unknown)} is no feature of model {manifest.name}"
        )


def _kept(manifest: Manifest, excluded: Collection[str]) -> list[int] | None:
    """Return the places of the features that events have; None for all."""
    if not excluded:
        return None
    return [place for place, each in enumerate(manifest.features) if each.name not in excluded]


def _without(event: Prediction | Label, kept: list[int]) -> Prediction | Label:
    """Return an event with only the features at these places."""
    if isinstance(event, Label):
        return event
    features = [event.features[place] for place in kept]
    return Prediction(
        event.prediction_id, event.time, features, event.prediction, event.probabilities
    )


def _begin(directories: Sequence[Path], header: bytes) -> int:
    """Return the descriptor of a new segment, which is locked and has its header.

    The lock and the content are those of the file, so every directory's link has them.
    """
    name = f"{time.time_ns():020d}-{secrets.token_hex(4)}{SUFFIX}"
    first, *others = [each / name for each in directories]
    unfinished = first.with_suffix(UNFINISHED_SUFFIX)
    descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.write(descriptor, header) < len(header):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301
        for each in others:
            os.link(unfinished, each)
        unfinished.rename(first)
    except OSError:
        for each in (unfinished, *others):
            each.unlink(missing_ok=True)
        os.close(descriptor)
        raise
    return descriptor


def _header(manifest: Manifest, excluded: Collection[str]) -> bytes:
    """Return the first line of this model's segments."""
    seen = {each.name: _seen(each) for each in manifest.reference}
    header = {
        "spool": FORMAT,
        "model": manifest.name,
        "version": manifest.version,
        "task": manifest.task,
        "features": [
            {"name": each.name, "type": each.type, **seen.get(each.name, {}), **_categories(each)}
            for each in manifest.features
            if each.name not in excluded
        ],
        "prediction": {**seen[PREDICTION], **_probabilities(manifest)},
        "target": _possible(manifest),
    }
    line = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return line[:-1] + f',"crc32":"{zlib.crc32(line):08x}"}}\n'.encode()


def _seen(reference: Reference) -> dict[str, float]:
    """Return the range of a signal; codes have none."""
    if reference.is_categorical:
        return {}
    return {"minimum": reference.minimum, "maximum": reference.maximum}


def _categories(feature: Feature) -> dict[str, Any]:
    return {"categories": [*feature.categories]} if feature.type == "category" else {}


def _probabilities(manifest: Manifest) -> dict[str, bool]:
    return {"probabilities": True} if manifest.probabilities else {}


def _possible(manifest: Manifest) -> dict[str, Any]:
    fields = {"name", "minimum", "maximum"}
    classes = {"classes": [*manifest.classes]} if manifest.classes else {}
    return manifest.target.model_dump(include=fields, exclude_none=True) | classes
