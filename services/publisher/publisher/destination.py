"""What a destination of the export has to do; docs/export.md explains it with an example."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from publisher.events import Event, Kind, ModelName
from publisher.header import Header


@dataclass(frozen=True)
class Batch:
    """Events of one kind for one model version, with the spool lines they were decoded from.

    `header` is that of the segment the lines come from, whose name without its suffix is
    `segment`. Labels may belong to an earlier version than the header's, so `model` counts.
    """

    model: ModelName
    kind: Kind
    header: Header
    events: list[Event]
    lines: list[bytes]
    segment: str = ""

    def add(self, line: bytes, event: Event) -> None:
        """Append an event and its line."""
        self.events.append(event)
        self.lines.append(line)

    def select(self, indices: list[int]) -> "Batch":
        """Return a batch of the events at these indices."""
        events = [self.events[index] for index in indices]
        lines = [self.lines[index] for index in indices]
        return Batch(self.model, self.kind, self.header, events, lines, self.segment)


class Destination(ABC):
    """Receives batches, each at least once.

    A batch is sent again when its outcome is unknown, so storing an event must be idempotent: the
    event's `key` identifies it. A label is sent after its prediction.
    """

    largest_batch = 1_000
    """Maximum number of events in a batch."""

    whole_segments = False
    """Whether a batch is all events of a kind and a version in a segment that has been closed.

    Then `largest_batch` does not count, labels do not wait, a batch that is sent again is the same
    again, and a RejectedError stops the publisher like a StoppedError.
    """

    @abstractmethod
    def publish(self, batch: Batch) -> None:
        """Return once the events are stored durably.

        Raises TransientError (the batch is sent again after a pause), RejectedError (the batch is
        divided until only the rejected events are left, which go to quarantine) or StoppedError
        (nothing is sent for 10 to 15 minutes, and an alert fires).
        """

    def checker(self, header: Header) -> Callable[[Event], None]:  # noqa: ARG002 for subclasses
        """Return a check of single events, which go to quarantine if it raises ValueError.

        Its message must hold no value of the event.
        """
        return _accept

    def measure(self, registry: CollectorRegistry) -> None:  # noqa: B027 optional
        """Register metrics of its own."""

    def register(self, header: Header) -> None:  # noqa: B027 optional
        """Learn about a model version; called before its predictions are sent."""

    def work(self) -> None:  # noqa: B027 optional
        """Do what is not urgent; called after each pass over the spool. Must not raise."""

    def reset(self) -> None:  # noqa: B027 optional
        """Forget what was learned; called before the next try after StoppedError."""


def _accept(_: Event) -> None:
    """Let an event pass."""
