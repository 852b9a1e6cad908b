"""Deliver batches, retrying without limit; rejected events go to quarantine."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from publisher.destination import Batch, Destination
from publisher.errors import RejectedError, StoppedError, TransientError, UnknownModelError
from publisher.events import Kind
from publisher.header import Header
from publisher.metrics import Metrics
from publisher.quarantine import Quarantine
from publisher.stop import Stop

T = TypeVar("T")

CONFLICT = 409
# So many events of a rejected batch are tried alone, before it is divided.
_PROBES = 10

log = logging.getLogger(__name__)


class Backoff:
    """Exponential backoff with jitter, so that many publishers do not retry at the same time."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def reset(self) -> None:
        """Start again with the first pause."""
        self._failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Return the next pause in seconds."""
        pause = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(at_least, pause * random.uniform(0.5, 1.0))  # noqa: S311 no secret


@dataclass
class Delivery:
    """Sends batches until they are accepted, the process is stopped, or StoppedError is raised."""

    destination: Destination
    quarantined: Quarantine
    metrics: Metrics
    backoff: Backoff
    stop: Stop
    rejected_limit: int = 10
    """If so many events in a row are rejected and none is accepted, the events are not at fault."""
    _rejected_in_a_row: int = field(default=0, init=False)

    def send(self, batch: Batch) -> None:
        """Return once every event has been accepted or quarantined.

        Raises StoppedError if nothing of the batch is accepted: then the events are not at fault.
        """
        batch = self._hold_labels(batch)
        try:
            self._publish(batch)
        except UnknownModelError as error:
            for line in batch.lines:
                self._quarantine_rejected(batch, line, error)
        except RejectedError as error:
            if self.destination.whole_segments:
                self._rejected_in_a_row = len(batch.events)
                self._stop_all(batch, error)
            rest = _without(batch, error)
            step = max(1, -(-len(rest.events) // _PROBES))
            probes = range(0, len(rest.events), step)
            self._probe(rest.select([*probes]))
            self._divide(rest.select([i for i in range(len(rest.events)) if i not in probes]))

    def retry_later(self, question: Callable[[], dict[str, int]]) -> dict[str, int]:
        """Return the answer, or nothing if it fails for now: the next pass asks again."""
        try:
            with self.stop.interruptible():
                return question()
        except TransientError as error:
            self.metrics.count_failure(error.cause)
            log.warning("labels wait: %s", error)
            return {}

    def quarantine(self, header: Header, kind: Kind, line: bytes, reason: str) -> None:
        """Write a line to the quarantine; where the disk has no room, it is lost and counted."""
        self.metrics.count_quarantined(kind)
        try:
            lost = self.quarantined.add(header, kind, line, reason)
        except OSError as error:
            log.error("a rejected event is lost, the quarantine is not writable: %s", error)  # noqa: TRY400
            lost = 1
        self.metrics.count_lost(lost)

    def predictions_left(self) -> bool:
        """Return whether predictions have left the quarantine since the last call."""
        try:
            return self.quarantined.refresh()
        except OSError as error:
            log.warning("the quarantine cannot be read: %s", error)
            return False

    def _hold_labels(self, batch: Batch) -> Batch:
        """Quarantine the labels whose predictions are there, and return the others."""
        if batch.kind == "prediction" or self.destination.whole_segments:
            return batch
        held = [i for i, each in enumerate(batch.events) if self.quarantined.holds(each.key)]
        for index in held:
            self.quarantine(batch.header, "label", batch.lines[index], "its prediction is here")
        return (
            batch.select([i for i in range(len(batch.events)) if i not in {*held}])
            if held
            else batch
        )

    def _publish(self, batch: Batch) -> None:
        """Send a batch until it is accepted. Raises RejectedError."""
        if not batch.events:
            return
        try:
            self._retry(lambda: self.destination.publish(batch))
        except RejectedError as error:
            self.backoff.reset()
            # The destination already has this event: the response to an earlier try was lost.
            if error.status != CONFLICT or len(batch.events) > 1:
                self._count(batch, len(batch.events) - len(_without(batch, error).events))
                raise
        self._count(batch, len(batch.events))

    def _count(self, batch: Batch, events: int) -> None:
        if events:
            self._rejected_in_a_row = 0
            self.metrics.count_published(batch.kind, events)

    def _retry(self, request: Callable[[], None]) -> None:
        """Repeat a request while it raises TransientError. Raises InterruptedByStop."""
        while True:
            try:
                with self.stop.interruptible():
                    request()
            except TransientError as error:
                self.metrics.count_failure(error.cause)
                pause = self.backoff.next(error.wait)
                log.warning("%s, retrying in %.1f s: %s", error.cause, pause, error)
                with self.stop.interruptible():
                    time.sleep(pause)
            else:
                self.backoff.reset()
                return

    def _probe(self, batch: Batch) -> None:
        """Send each event alone, and quarantine the rejected ones unless all are rejected."""
        rejected: list[tuple[bytes, RejectedError]] = []
        for index, line in enumerate(batch.lines):
            try:
                self._publish(batch.select([index]))
            except RejectedError as error:
                rejected.append((line, error))
        if len(rejected) == len(batch.lines):
            self._rejected_in_a_row += len(rejected)
        if rejected and self._rejected_in_a_row >= self.rejected_limit:
            self._stop_all(batch, rejected[0][1])
        for line, reason in rejected:
            self._quarantine_rejected(batch, line, reason)

    def _divide(self, batch: Batch) -> None:
        """Bisect a batch, so that only the events that the destination rejects are set aside."""
        try:
            self._publish(batch)
        except RejectedError as error:
            rest = _without(batch, error)
            middle = len(rest.events) // 2
            if not middle:
                self._quarantine_rejected(rest, rest.lines[0], error)
                return
            self._divide(rest.select([*range(middle)]))
            self._divide(rest.select([*range(middle, len(rest.events))]))

    def _quarantine_rejected(self, batch: Batch, line: bytes, error: RejectedError) -> None:
        log.error("a %s was rejected (%d); quarantine/ has the reason", batch.kind, error.status)
        self.quarantine(batch.header, batch.kind, line, str(error))

    def _stop_all(self, batch: Batch, error: RejectedError) -> None:
        """Raise StoppedError, with the destination's reason in a file: it may hold values."""
        try:
            self.quarantined.explain(str(error))
        except OSError as failure:
            log.warning("the reason could not be written to quarantine/: %s", failure)
        message = (
            f"{self._rejected_in_a_row} {batch.kind}s in a row were rejected ({error.status}),"
            " none accepted; quarantine/stopped.txt has the reason"
        )
        raise StoppedError("rejected", message) from None


def _without(batch: Batch, error: RejectedError) -> Batch:
    """Return the batch without the events that were accepted nevertheless."""
    left = [index for index, event in enumerate(batch.events) if event.key not in error.accepted]
    return batch.select(left)
