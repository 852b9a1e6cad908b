"""A publisher in this process, with a destination in memory and clocks that the test sets."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

from publisher.__main__ import create_publisher
from publisher.barrier import Barrier
from publisher.delivery import Backoff, Delivery
from publisher.destination import Batch, Destination
from publisher.errors import TransientError
from publisher.events import Kind
from publisher.header import Header
from publisher.metrics import Metrics
from publisher.quarantine import Quarantine
from publisher.spool import Spool
from publisher.stop import Stop


def accept_all(_: Batch) -> None:
    """Accept every batch."""


class Memory(Destination):
    """A destination that stores what arrives; `before_accept` may raise."""

    largest_batch = 1_000

    def __init__(self) -> None:
        self.arrived: list[Batch] = []
        self.registered: list[Header] = []
        self.requests = 0
        self.before_accept: Callable[[Batch], None] = accept_all

    def register(self, header: Header) -> None:
        """Store the description of a model version."""
        self.registered.append(header)

    def publish(self, batch: Batch) -> None:
        """Accept the events unless `before_accept` raises."""
        self.requests += 1
        self.before_accept(batch)
        self.arrived.append(batch)

    def ids(self, kind: Kind) -> list[str]:
        """Return the ids of one kind in order of arrival."""
        return [each.key for batch in self.arrived if batch.kind == kind for each in batch.events]


class Replicas:
    """What the other replicas say: a time, or nothing."""

    def __init__(self) -> None:
        self.time: float | None = inf

    def settled(self) -> float:
        """Return the time."""
        if self.time is None:
            raise TransientError("peer", "no answer")
        return self.time


class Harness:
    """A publisher of a spool."""

    def __init__(
        self, directory: Path, *, label_delay: float = 0.0, destination: Destination | None = None
    ) -> None:
        self.directory = directory
        self.now = 0.0
        self.destination = Memory()
        self.replicas = Replicas()
        barrier = Barrier(label_delay, self.replicas, clock=lambda: self.now, now=self._wall_time)
        self.spool = Spool(directory, keep=False)
        self.metrics = Metrics(self.spool, barrier)
        published_to = destination or self.destination
        published_to.measure(self.metrics.registry)
        delivery = Delivery(
            published_to,
            Quarantine(directory / "quarantine"),
            self.metrics,
            Backoff(0.001, 0.001),
            Stop(),
        )
        self.publisher = create_publisher(self.spool, published_to, delivery, barrier)

    def _wall_time(self) -> float:
        return 1_800_000_000.0 + self.now

    def value(self, name: str, **labels: str) -> float:
        """Return a sample of the publisher's metrics."""
        value = self.metrics.registry.get_sample_value(name, labels)
        assert value is not None
        return value

    def quarantined(self) -> list[dict[str, str]]:
        """Return the quarantined events."""
        path = self.directory / "quarantine" / "rejected.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@contextmanager
def fails_once(error: Exception, destination: Memory) -> Iterator[None]:
    """Make the destination raise an error once."""
    errors = [error]

    def fail(_: Batch) -> None:
        if errors:
            raise errors.pop()

    destination.before_accept = fail
    yield
    assert not errors
