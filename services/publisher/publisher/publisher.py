"""Publish the spool: predictions first, then only labels that cannot overtake them."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from publisher.delivery import Batch, Delivery
from publisher.events import ModelName, label_decoder, model_name, prediction_decoder
from publisher.spool import Header, LinesRead, Segment, Spool, read_lines

T = TypeVar("T")

# Fiddler's limit per request.
BATCH = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Barrier:
    """The size of each segment before a pass over the spool; labels below it may be published.

    A label is spooled after its prediction. So when the barrier was set, the prediction of every
    label below it was already in some segment, and the pass that followed has published it.
    """

    sizes: dict[str, int]
    published_at: float


@dataclass
class Publisher:
    """Publishes a spool; calls `register` with each model before its events are sent."""

    spool: Spool
    delivery: Delivery
    register: Callable[[Header], None]
    label_delay: float
    """Seconds between publishing predictions and their labels: Fiddler stores events late."""
    clock: Callable[[], float] = time.monotonic
    _barrier: _Barrier | None = field(default=None, init=False)

    def run_once(self) -> bool:
        """Publish what is in the spool; return whether there was anything.

        Raises FatalError and InterruptedByStop; positions of accepted batches are stored.
        """
        sizes = {segment.name: segment.size() for segment in self.spool.segments()}
        segments = self.spool.segments()
        published = [self._publish_predictions(segment) for segment in segments]
        if self._barrier is None:
            self._barrier = _Barrier(sizes, self.clock())
        if self.clock() - self._barrier.published_at >= self.label_delay:
            barrier, self._barrier = self._barrier, None
            published += [
                self._publish_labels(segment, barrier.sizes.get(segment.name, 0))
                for segment in segments
            ]
        for segment in segments:
            self.spool.finish(segment)
        return any(published)

    def _publish_predictions(self, segment: Segment) -> bool:
        """Publish a segment's predictions, up to its current size."""
        self.register(segment.header)
        start = self.spool.position(segment).predictions
        for batch in _batches(segment, start, segment.size(), labels=False):
            self._send_predictions(segment.header, batch)
            self.spool.advance_predictions(segment, batch)
        return self.spool.position(segment).predictions > start

    def _publish_labels(self, segment: Segment, end: int) -> bool:
        """Publish a segment's labels, up to an offset."""
        start = self.spool.position(segment).labels
        for batch in _batches(segment, start, end, labels=True):
            self._send_labels(segment.header, batch)
            self.spool.advance_labels(segment, batch)
        return self.spool.position(segment).labels > start

    def _send_predictions(self, header: Header, found: LinesRead) -> None:
        batch = Batch(model_name(header), "prediction", [], [])
        decode = prediction_decoder(header)
        for line, event in self._decoded(batch.model, batch.kind, found.lines, decode):
            batch.add(line, event)
        if batch.events:
            self.delivery.send(batch)

    def _send_labels(self, header: Header, found: LinesRead) -> None:
        """Send each label to the version that predicted, which may be an older one."""
        batches: dict[ModelName, Batch] = {}
        decoded = self._decoded(model_name(header), "label", found.lines, label_decoder(header))
        for line, (model, event) in decoded:
            batches.setdefault(model, Batch(model, "label", [], [])).add(line, event)
        for batch in batches.values():
            self.delivery.send(batch)

    def _decoded(
        self, model: ModelName, kind: str, lines: list[bytes], decode: Callable[[bytes], T]
    ) -> Iterator[tuple[bytes, T]]:
        """Yield each line with its decoded event; quarantine lines that cannot be decoded."""
        for line in lines:
            try:
                yield line, decode(line)
            except ValueError as error:
                log.error("unreadable line in the spool: %s", error)  # noqa: TRY400
                self.delivery.quarantine(line, f"unreadable: {error}", kind, model)


def _batches(segment: Segment, start: int, end: int, *, labels: bool) -> Iterator[LinesRead]:
    """Yield the predictions (or labels) between two offsets in batches of at most BATCH."""
    while start < end:
        found = read_lines(segment.path, start, end, BATCH, labels=labels)
        if not found.passed:
            return
        yield found
        start = found.offset
