"""Publish the spool: predictions first, then only labels that cannot overtake them."""

from collections.abc import Iterator
from dataclasses import dataclass

from publisher.barrier import Barrier
from publisher.batches import sort_lines
from publisher.delivery import Delivery
from publisher.destination import Destination
from publisher.errors import OF_ONE_MODEL, StoppedError
from publisher.events import Kind, ModelName, model_name
from publisher.quarantine import DAMAGED
from publisher.spool import LinesRead, Segment, Spool, read_lines


@dataclass
class Publisher:
    """Publishes a spool to a destination."""

    spool: Spool
    destination: Destination
    delivery: Delivery
    barrier: Barrier

    def run_once(self) -> bool:
        """Publish what is in the spool; return whether there was anything.

        Raises StoppedError and InterruptedByStop; positions of accepted batches are stored.
        """
        if self.delivery.predictions_left():
            self.barrier.restart()
        mark = self.barrier.begin({each.name: each.size() for each in self.spool.segments()})
        segments = self.spool.segments()
        published = self._publish_predictions(segments)
        # A segment that waits for a newer publisher may hold predictions of labels elsewhere.
        if not self.spool.unknown:
            self.barrier.end(mark)
        released = self.delivery.retry_later(self.barrier.release)
        if released:
            published |= self._publish_labels(segments, released)
        for segment in segments:
            self.spool.finish(segment)
        return published

    def _publish_predictions(self, segments: list[Segment]) -> bool:
        """Publish all predictions; an error of one model does not delay the other models'."""
        stopped: dict[ModelName, StoppedError] = {}
        published = False
        for segment in segments:
            model = model_name(segment.header)
            if model in stopped:
                continue
            try:
                self.destination.register(segment.header)
                published |= self._publish(segment, segment.size(), "prediction")
            except StoppedError as error:
                if error.reason not in OF_ONE_MODEL:
                    raise
                stopped[model] = error
        for first in stopped.values():
            raise first
        return published

    def _publish_labels(self, segments: list[Segment], sizes: dict[str, int]) -> bool:
        """Publish the labels of segments, up to the given offsets."""
        return any(
            [self._publish(each, sizes.get(each.name, 0), "label") for each in segments]  # noqa: C419 all
        )

    def _publish(self, segment: Segment, end: int, kind: Kind) -> bool:
        """Publish a segment's events of a kind, up to an offset; return whether it moved."""
        start = self.spool.position(segment).offset(kind)
        for found in self._reads(segment, start, end, kind):
            sorted_lines = sort_lines(self.destination, segment, found.lines, kind)
            for each in sorted_lines.damaged:
                self.delivery.quarantine(segment.header, kind, each.line, DAMAGED + each.reason)
            for batch in sorted_lines.batches:
                self.delivery.send(batch)
            self.spool.advance(segment, kind, found)
        return self.spool.position(segment).offset(kind) > start

    def _reads(self, segment: Segment, start: int, end: int, kind: Kind) -> Iterator[LinesRead]:
        """Yield the lines of a kind between two offsets, as many as a batch may have."""
        while start < end:
            limit = self.destination.largest_batch
            found = read_lines(segment.path, start, end, limit, labels=kind == "label")
            if not found.passed:
                return
            yield found
            start = found.offset
