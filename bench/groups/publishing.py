"""The throughput of the publisher on one core.

The stand-in for Fiddler runs in this process, on the other core.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.bench import VAR, Bench
from bench.machine import pinned, processor_seconds
from bench.publisher import Publisher, fill, publishing, require_client
from bench.report import Section, at_least, spread
from bundle.load import load_manifest
from tools.fiddler_stand_in import Fiddler, running_fiddler

PREDICTIONS = 100_000
_EVENTS = PREDICTIONS + PREDICTIONS // 2


@dataclass(frozen=True)
class Mark:
    """Events at Fiddler, with the wall time and the publisher's processor time in seconds."""

    events: int
    wall: float
    processor: float


@dataclass(frozen=True)
class Speed:
    """Events per second of wall time, and of the publisher's processor time."""

    wall: float
    processor: float


def measure(bench: Bench) -> Section:
    """Measure how many events per second one core publishes."""
    require_client()
    VAR.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="spool-", dir=VAR) as directory:
        turns = [_measure(bench, Path(directory, str(turn))) for turn in range(bench.rounds)]
    predictions, labels, events = zip(*turns, strict=True)
    return Section(
        f"Publishing to Fiddler, one core, median of {bench.rounds} rounds",
        [
            ["", "measured", "lowest – highest"],
            *_rows("predictions", predictions),
            *_rows("labels", labels),
            *_rows("events", events),
        ],
        [
            at_least(
                "export", "events/s published by one core", median(e.wall for e in events), 5_000
            )
        ],
    )


def _measure(bench: Bench, spool: Path) -> tuple[Speed, Speed, Speed]:
    """Return the speed of predictions, of labels, and of both together."""
    fill(spool, load_manifest(bench.bundle), bench.rows, PREDICTIONS)
    settings = {"PUBLISHER_LABEL_DELAY_SECONDS": "0"}
    with (
        pinned({bench.cores.loader}),
        running_fiddler() as fiddler,
        publishing(bench, spool, fiddler.url, **settings) as publisher,
    ):
        # From the first batch on, to exclude the import of the client and creating the model.
        marks = [_mark(publisher, fiddler, events) for events in (1, PREDICTIONS, _EVENTS)]
    first, middle, last = marks
    return speed(first, middle), speed(middle, last), speed(first, last)


def speed(start: Mark, end: Mark) -> Speed:
    """Return the speed between two marks."""
    events = end.events - start.events
    return Speed(events / (end.wall - start.wall), events / (end.processor - start.processor))


def _mark(publisher: "Publisher", fiddler: Fiddler, events: int) -> Mark:
    """Wait until Fiddler has a number of events; return the mark of that moment."""
    publisher.until(lambda: _arrived(fiddler) >= events, f"{events:,} events arrived")
    return Mark(_arrived(fiddler), time.perf_counter(), processor_seconds(publisher.pid))


def _arrived(fiddler: Fiddler) -> int:
    """Return the number of distinct predictions and of label updates that Fiddler has accepted."""
    counts = fiddler.store.counts
    return counts["accepted"] + counts["updates"]


def _rows(kind: str, speeds: Sequence[Speed]) -> Iterator[list[str]]:
    for what, values in (
        (f"{kind}/s", [each.wall for each in speeds]),
        (f"{kind} per s of processor time", [each.processor for each in speeds]),
    ):
        yield [what, *spread(values)]
