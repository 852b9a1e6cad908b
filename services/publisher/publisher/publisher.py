"""Rounds through the spool: predictions first, then the labels that cannot overtake them."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from publisher.delivery import Batch, Delivery
from publisher.events import ModelName, label_decoder, model_name, prediction_decoder
from publisher.spool import Header, Segment, Spool, Taken, take

T = TypeVar("T")

# What Fiddler takes in one request.
BATCH = 1_000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Barrier:
    """How large each segment was before a round: the predictions of these labels are published.

    A label is spooled after its prediction. So all predictions that belong to labels before the
    barrier were spooled when it was taken, in whatever segment, and the round that followed it
    published them.
    """

    sizes: dict[str, int]
    published_at: float


@dataclass
class Publisher:
    """Publishes a spool. `learn` hears of every model before events of it are sent."""

    spool: Spool
    delivery: Delivery
    learn: Callable[[Header], None]
    label_delay: float
    """Seconds that Fiddler, which stores events some time after accepting them, is given."""
    clock: Callable[[], float] = time.monotonic
    _barrier: _Barrier | None = field(default=None, init=False)

    def round(self) -> bool:
        """Publish what is in the spool; return whether there was anything.

        Raises HopelessError and InterruptedByStop; what was accepted before is noted.
        """
        sizes = {segment.name: segment.size() for segment in self.spool.segments()}
        segments = self.spool.segments()
        found = [self._publish_predictions(segment) for segment in segments]
        if self._barrier is None:
            self._barrier = _Barrier(sizes, self.clock())
        if self.clock() - self._barrier.published_at >= self.label_delay:
            barrier, self._barrier = self._barrier, None
            found += [
                self._publish_labels(segment, barrier.sizes.get(segment.name, 0))
                for segment in segments
            ]
        for segment in segments:
            self.spool.finish(segment)
        return any(found)

    def _publish_predictions(self, segment: Segment) -> bool:
        """Publish a segment's predictions, up to its size of now."""
        self.learn(segment.header)
        end = segment.size()
        start = self.spool.position(segment).predictions
        while (at := self.spool.position(segment).predictions) < end:
            taken = take(segment.path, at, end, BATCH, labels=False)
            if not taken.passed:
                break
            self._send_predictions(segment.header, taken)
            self.spool.passed_predictions(segment, taken)
        return self.spool.position(segment).predictions > start

    def _publish_labels(self, segment: Segment, end: int) -> bool:
        start = self.spool.position(segment).labels
        while (at := self.spool.position(segment).labels) < end:
            taken = take(segment.path, at, end, BATCH, labels=True)
            if not taken.passed:
                break
            self._send_labels(segment.header, taken)
            self.spool.passed_labels(segment, taken)
        return self.spool.position(segment).labels > start

    def _send_predictions(self, header: Header, taken: Taken) -> None:
        batch = Batch(model_name(header), "prediction", [], [])
        decode = prediction_decoder(header)
        for line, event in self._readable(batch.model, batch.kind, taken.lines, decode):
            batch.add(line, event)
        if batch.events:
            self.delivery.send(batch)

    def _send_labels(self, header: Header, taken: Taken) -> None:
        """Send labels, each to the version that predicted: it may be an older one."""
        batches: dict[ModelName, Batch] = {}
        found = self._readable(model_name(header), "label", taken.lines, label_decoder(header))
        for line, (model, event) in found:
            batches.setdefault(model, Batch(model, "label", [], [])).add(line, event)
        for batch in batches.values():
            self.delivery.send(batch)

    def _readable(
        self, model: ModelName, kind: str, lines: list[bytes], decode: Callable[[bytes], T]
    ) -> Iterator[tuple[bytes, T]]:
        """Yield lines with what they say, and put those that say nothing into quarantine."""
        for line in lines:
            try:
                yield line, decode(line)
            except ValueError as error:
                log.error("an unreadable line in the spool: %s", error)  # noqa: TRY400
                self.delivery.set_aside(line, f"unreadable: {error}", kind, model)
