"""Publish a spool to a destination that takes whole segments, each once it is closed."""

from dataclasses import dataclass

from publisher.batches import Damaged, sort_lines
from publisher.delivery import Delivery
from publisher.destination import Destination
from publisher.events import KINDS, Kind
from publisher.quarantine import DAMAGED
from publisher.spool import Segment, Spool, is_closed, read_lines


@dataclass
class SegmentPublisher:
    """Publishes closed segments, oldest first.

    It needs no position: until all of a segment is stored, it is sent again from its start, and the
    destination replaces what it has. Nor does a label wait for its prediction.
    """

    spool: Spool
    destination: Destination
    delivery: Delivery

    def run_once(self) -> bool:
        """Publish all closed segments; return whether there was any.

        Raises StoppedError and InterruptedByStop.
        """
        segments = [each for each in self.spool.segments() if is_closed(each.path)]
        for segment in segments:
            self._publish(segment)
        return bool(segments)

    def _publish(self, segment: Segment) -> None:
        self.destination.register(segment.header)
        damaged = [(kind, each) for kind in KINDS for each in self._send(segment, kind)]
        # Last, because whatever is repeated after an error would be set aside again.
        for kind, each in damaged:
            self.delivery.quarantine(segment.header, kind, each.line, DAMAGED + each.reason)
        self.spool.remove(segment)

    def _send(self, segment: Segment, kind: Kind) -> list[Damaged]:
        """Send a segment's events of a kind; return the lines that are no such events."""
        size = segment.size()
        found = read_lines(segment.path, segment.start, size, size, labels=kind == "label")
        sorted_lines = sort_lines(self.destination, segment, found.lines, kind)
        for batch in sorted_lines.batches:
            self.delivery.send(batch)
        return sorted_lines.damaged
