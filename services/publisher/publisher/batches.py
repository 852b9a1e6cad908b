"""Make batches of a segment's lines; lines that cannot be decoded are set aside."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from publisher.destination import Batch, Destination
from publisher.events import Event, Kind, Label, ModelName, decoder, model_name
from publisher.spool import Segment

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Damaged:
    """A line that is no event of its kind, or that does not fit the destination, and why."""

    line: bytes
    reason: str


@dataclass(frozen=True)
class Sorted:
    """A batch for each model version, and the lines that belong to none."""

    batches: list[Batch]
    damaged: list[Damaged] = field(default_factory=list)


def sort_lines(
    destination: Destination, segment: Segment, lines: Iterable[bytes], kind: Kind
) -> Sorted:
    """Return lines of a kind as batches: a label's version may be older than the segment's."""
    batches: dict[ModelName, Batch] = {}
    damaged: list[Damaged] = []
    for line, event in _decoded(destination, segment, lines, kind):
        if isinstance(event, Damaged):
            log.error("damaged line in %s: %s", segment.name, event.reason)
            damaged.append(event)
            continue
        model = model_name(segment.header)
        if isinstance(event, Label):
            model = ModelName(model.name, event.version)
        empty = Batch(model, kind, segment.header, [], [], segment.path.stem)
        batches.setdefault(model, empty).add(line, event)
    return Sorted([*batches.values()], damaged)


def _decoded(
    destination: Destination, segment: Segment, lines: Iterable[bytes], kind: Kind
) -> Iterator[tuple[bytes, Event | Damaged]]:
    decode, check = decoder(segment.header, kind), destination.checker(segment.header)
    for line in lines:
        try:
            event = decode(line)
            check(event)
        except ValueError as error:
            yield line, Damaged(line, str(error))
        else:
            yield line, event
