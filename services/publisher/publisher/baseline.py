"""Upload a model's training rows to Fiddler as the baseline that production is compared with.

Fiddler accepts rows but no summaries such as the bundle's deciles. The model service therefore
copies the bundle's reference rows, if there are any, to `reference-<version>.csv` in the spool.
Without a baseline, Fiddler can compare production only with earlier production.
"""

import csv
import io
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from publisher.errors import RejectedError, TransientError
from publisher.events import ModelName, model_name, output_name
from publisher.metrics import Metrics
from publisher.spool import Header

PREDICTION = "prediction"
DATASET = "training"

log = logging.getLogger(__name__)


class Destination(Protocol):
    """The part of the Fiddler client that baselines use."""

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Upload rows and return the id of the ingestion job, or None if the dataset exists."""

    def job_state(self, job: str) -> tuple[str, str]:
        """Return the state and the error message of a job."""


class Baselines:
    """Uploads the training rows of every registered model version, one step at a time."""

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
        # Seconds between steps: a baseline is not urgent and must not delay events.
        self._pause = pause
        self._clock = clock
        self._seen: set[ModelName] = set()
        self._waiting: list[Header] = []
        self._job: str | None = None
        self._next_at = 0.0

    def register(self, header: Header) -> None:
        """Schedule the baseline of a model version unless it was registered before."""
        if model_name(header) not in self._seen:
            self._seen.add(model_name(header))
            self._waiting.append(header)

    def advance(self) -> None:
        """Take the next step if it is due. Raises FatalError."""
        if not self._waiting or self._clock() < self._next_at:
            return
        header = self._waiting[0]
        try:
            done = self._poll_job(self._job) if self._job else self._upload(header)
        except TransientError as error:
            log.warning("the baseline of version %s is delayed: %s", header.version, error)
            done = False
        except RejectedError as error:
            log.error("Fiddler rejected the baseline of version %s: %s", header.version, error)  # noqa: TRY400
            done = True
        if done:
            self._waiting.pop(0)
            self._job = None
        else:
            self._next_at = self._clock() + self._pause

    def _upload(self, header: Header) -> bool:
        """Upload the rows of a version; return whether its baseline needs no further step."""
        source = self._directory / f"reference-{header.version}.csv"
        if not source.exists():
            log.warning("no baseline for version %s: its bundle has no rows", header.version)
            return True
        rows = rename_columns(source.read_text("utf-8"), header)
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "rows.csv"
            path.write_text(rows, "utf-8")
            self._job = self._destination.publish_baseline(model_name(header), path, DATASET)
        return self._job is None and self._mark_published(header)

    def _poll_job(self, job: str) -> bool:
        state, error = self._destination.job_state(job)
        if state in ("FAILURE", "REVOKED"):
            raise RejectedError(0, f"job {job} ended with {state}: {error}")
        return state == "SUCCESS" and self._mark_published(self._waiting[0])

    def _mark_published(self, header: Header) -> bool:
        log.info("published the baseline of version %s", header.version)
        self._metrics.mark_baseline_published()
        return True


def rename_columns(rows: str, header: Header) -> str:
    """Return CSV rows with the column names of Fiddler's model.

    Raises RejectedError if the columns are not those of the model.
    """
    first, _, rest = rows.partition("\n")
    names = next(csv.reader([first]), [])
    target = header.target.name
    if sorted(names) != sorted([*(each.name for each in header.features), target, PREDICTION]):
        raise RejectedError(0, f"the rows have other columns than the model: {', '.join(names)}")
    text = io.StringIO()
    columns = [output_name(target) if name == PREDICTION else name for name in names]
    csv.writer(text, lineterminator="\n").writerow(columns)
    return text.getvalue() + rest
