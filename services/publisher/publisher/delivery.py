"""Get a batch to Fiddler, however long it takes; what it refuses goes to quarantine."""

import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from publisher.errors import RefusedError, TransientError
from publisher.events import Event, ModelName
from publisher.metrics import Metrics
from publisher.quarantine import Quarantine
from publisher.stop import Stop

CONFLICT = 409

log = logging.getLogger(__name__)


class Destination(Protocol):
    """What the delivery needs of Fiddler."""

    def publish(self, name: ModelName, events: list[Event], *, update: bool) -> None:
        """Send events, or raise TransientError, RefusedError or HopelessError."""


@dataclass(frozen=True)
class Batch:
    """Events of one kind for one model, and the lines they come from."""

    model: ModelName
    kind: str
    events: list[Event]
    lines: list[bytes]

    def add(self, line: bytes, event: Event) -> None:
        """Add an event."""
        self.events.append(event)
        self.lines.append(line)

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return two smaller batches."""
        middle = len(self.events) // 2
        return (
            Batch(self.model, self.kind, self.events[:middle], self.lines[:middle]),
            Batch(self.model, self.kind, self.events[middle:], self.lines[middle:]),
        )


class Backoff:
    """Pauses that double, with jitter: many publishers must not come back all at once."""

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._failures = 0

    def reset(self) -> None:
        """Forget past failures."""
        self._failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Return the next pause in seconds."""
        pause = min(self._longest, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return max(at_least, pause * random.uniform(0.5, 1.0))  # noqa: S311 no secret


class Delivery:
    """Sends batches; ends only by their acceptance, by a stop, or by HopelessError."""

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
        """Return once every event has been accepted or is in quarantine."""
        try:
            self.patiently(
                lambda: self._destination.publish(
                    batch.model, batch.events, update=batch.kind == "label"
                )
            )
        except RefusedError as refusal:
            self._refused(batch, refusal)
        else:
            self._metrics.published(batch.kind, len(batch.events))

    def patiently(self, request: Callable[[], None]) -> None:
        """Make a request until it is answered with yes or no. Raises InterruptedByStop."""
        while True:
            try:
                with self._stop.interruptible():
                    request()
            except TransientError as error:
                self._metrics.failed(error.cause)
                pause = self._backoff.next(error.wait)
                log.warning("%s, trying again in %.1f s: %s", error.cause, pause, error)
                with self._stop.interruptible():
                    time.sleep(pause)
            else:
                self._backoff.reset()
                return

    def set_aside(self, line: bytes, words: str, kind: str, model: ModelName) -> None:
        """Put a line into quarantine. A disk that takes it not is no reason to stop."""
        self._metrics.quarantined(kind)
        try:
            self._quarantine.add(line, words, kind=kind, model=model.name, version=model.version)
        except OSError as error:
            log.error("a refused event is lost, the quarantine cannot be written: %s", error)  # noqa: TRY400

    def _refused(self, batch: Batch, refusal: RefusedError) -> None:
        """Find the events that a batch was refused for: the others must get through."""
        self._backoff.reset()
        if len(batch.events) > 1:
            for half in batch.halves():
                self.send(half)
        elif refusal.status == CONFLICT:
            # Fiddler has this event: its answer to an earlier try was lost.
            self._metrics.published(batch.kind, 1)
        else:
            log.error("Fiddler refuses a %s (%d): %s", batch.kind, refusal.status, refusal)
            self.set_aside(batch.lines[0], str(refusal), batch.kind, batch.model)
