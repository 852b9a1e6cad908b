"""Give Fiddler the rows that a model was trained on: what it compares production with.

Fiddler's documented way is to upload rows; summaries, such as the bundle's deciles, it does not
take. So the spool has `reference-<version>.csv` where the bundle carries such rows. Without them
Fiddler can only compare production with older production.
"""

import csv
import io
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from publisher.errors import RefusedError, TransientError
from publisher.events import ModelName, model_name, output_name
from publisher.metrics import Metrics
from publisher.spool import Header

PREDICTION = "prediction"
DATASET = "training"

log = logging.getLogger(__name__)


class Destination(Protocol):
    """What the baseline needs of Fiddler."""

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Upload rows; return the job that reads them, None where they are there."""

    def job_state(self, job: str) -> tuple[str, str]:
        """Return a job's state and error."""


class Baselines:
    """Uploads the training rows of every version it learns of; a step at a time."""

    def __init__(
        self,
        directory: Path,
        destination: Destination,
        metrics: Metrics,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._destination = destination
        self._metrics = metrics
        # In seconds: a baseline is in no hurry, and must not be in the way of events.
        self._pause = pause
        self._clock = clock
        self._seen: set[ModelName] = set()
        self._waiting: list[Header] = []
        self._job: str | None = None
        self._next_at = 0.0

    def learn(self, header: Header) -> None:
        """Remember a model, the first time it is met."""
        if model_name(header) not in self._seen:
            self._seen.add(model_name(header))
            self._waiting.append(header)

    def advance(self) -> None:
        """Make the next step, if it is time for one. Raises HopelessError."""
        if not self._waiting or self._clock() < self._next_at:
            return
        header = self._waiting[0]
        try:
            done = self._follow(self._job) if self._job else self._upload(header)
        except TransientError as error:
            log.warning("the baseline of version %s waits: %s", header.version, error)
            done = False
        except RefusedError as error:
            log.error("no baseline of version %s at Fiddler: %s", header.version, error)  # noqa: TRY400
            done = True
        if done:
            self._waiting.pop(0)
            self._job = None
        else:
            self._next_at = self._clock() + self._pause

    def _upload(self, header: Header) -> bool:
        """Upload the rows of a version; return whether there is nothing left to do."""
        source = self._directory / f"reference-{header.version}.csv"
        if not source.exists():
            log.warning("no baseline of version %s: its bundle has no rows", header.version)
            return True
        rows = renamed(source.read_text("utf-8"), header)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "rows.csv"
            path.write_text(rows, "utf-8")
            self._job = self._destination.publish_baseline(model_name(header), path, DATASET)
        return self._job is None and self._succeed(header)

    def _follow(self, job: str) -> bool:
        state, error = self._destination.job_state(job)
        if state in ("FAILURE", "REVOKED"):
            raise RefusedError(0, f"the job {job} ended with {state}: {error}")
        return state == "SUCCESS" and self._succeed(self._waiting[0])

    def _succeed(self, header: Header) -> bool:
        log.info("Fiddler has the training rows of version %s", header.version)
        self._metrics.has_baseline()
        return True


def renamed(rows: str, header: Header) -> str:
    """Return rows of CSV under the names that Fiddler's model has for the columns.

    Raises RefusedError: they are of another model.
    """
    first, _, rest = rows.partition("\n")
    names = next(csv.reader([first]), [])
    target = header.target.name
    if sorted(names) != sorted([*(each.name for each in header.features), target, PREDICTION]):
        raise RefusedError(0, f"its rows have other columns than the model: {', '.join(names)}")
    text = io.StringIO()
    columns = [output_name(target) if name == PREDICTION else name for name in names]
    csv.writer(text, lineterminator="\n").writerow(columns)
    return text.getvalue() + rest
