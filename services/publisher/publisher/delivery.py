"""Deliver batches to Fiddler, retrying without limit; rejected events go to quarantine."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from publisher.errors import RejectedError, TransientError
from publisher.events import Event, ModelName
from publisher.metrics import Metrics
from publisher.quarantine import Quarantine
from publisher.stop import Stop

CONFLICT = 409

log = logging.getLogger(__name__)


class Destination(Protocol):
    """The part of the Fiddler client that delivery uses."""

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Send events. Raises TransientError, RejectedError or FatalError."""


@dataclass(frozen=True)
class Batch:
    """Events of one kind for one model, with the spool lines they were decoded from."""

    model: ModelName
    kind: str
    events: list[Event]
    lines: list[bytes]

    def add(self, line: bytes, event: Event) -> None:
        """Append an event and its line."""
        self.events.append(event)
        self.lines.append(line)

    def split(self) -> tuple["Batch", "Batch"]:
        """Return the two halves of this batch."""
        middle = len(self.events) // 2
        return (
            Batch(self.model, self.kind, self.events[:middle], self.lines[:middle]),
            Batch(self.model, self.kind, self.events[middle:], self.lines[middle:]),
        )


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


class Delivery:
    """Sends batches until they are accepted, the publisher is stopped, or FatalError is raised."""

    def __init__(
        self,
        destination: Destination,
        quarantine: Quarantine,
        metrics: Metrics,
        backoff: Backoff,
        stop: Stop,
    ) -> None:
        self._destination = destination
        self._quarantine = quarantine
        self._metrics = metrics
        self._backoff = backoff
        self._stop = stop

    def send(self, batch: Batch) -> None:
        """Return once every event has been accepted or quarantined."""
        try:
            self.retry(
                lambda: self._destination.publish(
                    batch.model, batch.events, update=batch.kind == "label"
                )
            )
        except RejectedError as error:
            self._isolate_rejected(batch, error)
        else:
            self._metrics.count_published(batch.kind, len(batch.events))

    def retry(self, request: Callable[[], None]) -> None:
        """Repeat a request while it raises TransientError. Raises InterruptedByStop."""
        while True:
            try:
                with self._stop.interruptible():
                    request()
            except TransientError as error:
                self._metrics.count_failure(error.cause)
                pause = self._backoff.next(error.wait)
                log.warning("%s, retrying in %.1f s: %s", error.cause, pause, error)
                with self._stop.interruptible():
                    time.sleep(pause)
            else:
                self._backoff.reset()
                return

    def quarantine(self, line: bytes, reason: str, kind: str, model: ModelName) -> None:
        """Write a line to the quarantine; a disk error loses the line but does not stop."""
        self._metrics.count_quarantined(kind)
        try:
            self._quarantine.add(line, reason, kind=kind, model=model.name, version=model.version)
        except OSError as error:
            log.error("a rejected event is lost, the quarantine is not writable: %s", error)  # noqa: TRY400

    def _isolate_rejected(self, batch: Batch, error: RejectedError) -> None:
        """Bisect a rejected batch, so that only the events that Fiddler rejects are set aside."""
        self._backoff.reset()
        if len(batch.events) > 1:
            for half in batch.split():
                self.send(half)
        elif error.status == CONFLICT:
            # Fiddler already has this event: the response to an earlier try was lost.
            self._metrics.count_published(batch.kind, 1)
        else:
            log.error("Fiddler rejected a %s (%d): %s", batch.kind, error.status, error)
            self.quarantine(batch.lines[0], str(error), batch.kind, batch.model)
