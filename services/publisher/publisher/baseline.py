"""Upload a model's training rows to Fiddler as the baseline that production is compared with.

Fiddler accepts rows but no summaries such as the bundle's deciles. The model service therefore
copies the bundle's reference rows, if there are any, to `reference-<version>.csv` in the spool.
Without a baseline, Fiddler can compare production only with earlier production.

Of several replicas, the one that created the model at Fiddler uploads the rows. The others do so
only if they are still missing much later.
"""

import csv
import logging
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from publisher.errors import RejectedError, StoppedError, TransientError
from publisher.events import ModelName, model_name
from publisher.fiddler_rows import fiddler_rows
from publisher.header import Header
from publisher.metrics import Metrics

DATASET = "training"
# Seconds after which a replica uploads the rows that the creator of the model has not uploaded.
_TAKE_OVER = (1_800.0, 7_200.0)
# Seconds before a failed upload is repeated; they double with each further one.
_FIRST_RETRY, _LONGEST_RETRY = 600.0, 21_600.0

log = logging.getLogger(__name__)


class Uploads(Protocol):
    """The part of the Fiddler client that baselines use."""

    def has_dataset(self, name: ModelName, dataset: str) -> bool:
        """Return whether the rows were uploaded before."""

    def upload(self, name: ModelName, rows: Path, dataset: str) -> str:
        """Upload rows and return the id of the ingestion job."""

    def job_state(self, job: str) -> tuple[str, str]:
        """Return the state and the error message of a job."""


@dataclass
class _Baseline:
    """The baseline of a model version; times are those of the clock."""

    header: Header
    upload_at: float
    """When to upload the rows if they are still missing."""
    job: str | None = None
    failures: int = 0


class Baselines:
    """Uploads the training rows of every registered model version, one step at a time."""

    def __init__(
        self,
        directory: Path,
        metrics: Metrics,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._metrics = metrics
        # Seconds between steps: a baseline is not urgent and must not delay events.
        self._pause = pause
        self._clock = clock
        self._seen: set[ModelName] = set()
        self._waiting: list[_Baseline] = []
        self._next_at = 0.0

    def register(self, header: Header, created: bool) -> None:  # noqa: FBT001 a callback
        """Schedule the baseline of a model version, unless that was done for this very model."""
        if created or model_name(header) not in self._seen:
            self._seen.add(model_name(header))
            delay = 0.0 if created else random.uniform(*_TAKE_OVER)  # noqa: S311 no secret
            self._waiting.append(_Baseline(header, self._clock() + delay))

    def advance(self, uploads: Uploads) -> None:
        """Take the next step if it is due. Never raises: events matter more than a baseline."""
        if not self._waiting or self._clock() < self._next_at:
            return
        baseline = self._waiting.pop(0)
        version = baseline.header.version
        try:
            step = self._poll_job if baseline.job else self._look_or_upload
            done = step(uploads, baseline)
        except TransientError as error:
            log.warning("the baseline of version %s is delayed: %s", version, error)
            done = False
        except (RejectedError, StoppedError, OSError) as error:
            log.error("the baseline of version %s failed (%s)", version, type(error).__name__)  # noqa: TRY400
            self._retry_later(baseline)
            done = False
        if not done:
            self._waiting.append(baseline)
            self._next_at = self._clock() + self._pause / len(self._waiting)

    def _look_or_upload(self, uploads: Uploads, baseline: _Baseline) -> bool:
        """Look for the rows, or upload them if it is time; return whether nothing is left to do."""
        header = baseline.header
        source = self._directory / f"reference-{header.version}.csv"
        if not source.exists():
            log.warning("no baseline for version %s: its bundle has no rows", header.version)
            return True
        # A failed job may have left an empty dataset.
        if not baseline.failures and uploads.has_dataset(model_name(header), DATASET):
            return self._mark_published(header)
        if self._clock() < baseline.upload_at:
            return False
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "rows.csv"
            write_rows(source, header, path)
            baseline.job = uploads.upload(model_name(header), path, DATASET)
        return False

    def _poll_job(self, uploads: Uploads, baseline: _Baseline) -> bool:
        assert baseline.job is not None  # noqa: S101 for the type checker
        state, error = uploads.job_state(baseline.job)
        if state in ("FAILURE", "REVOKED"):
            raise RejectedError(0, f"job {baseline.job} ended with {state}: {error}")
        return state == "SUCCESS" and self._mark_published(baseline.header)

    def _retry_later(self, baseline: _Baseline) -> None:
        self._metrics.count_failure("baseline")
        pause = min(_LONGEST_RETRY, _FIRST_RETRY * 2.0**baseline.failures)
        baseline.job, baseline.upload_at = None, self._clock() + pause
        baseline.failures += 1

    def _mark_published(self, header: Header) -> bool:
        log.info("published the baseline of version %s", header.version)
        self._metrics.mark_baseline_published()
        return True


def write_rows(source: Path, header: Header, path: Path) -> None:
    """Write reference rows as Fiddler gets them. Raises OSError or RejectedError."""
    with (
        source.open(encoding="utf-8", newline="") as lines,
        path.open("w", encoding="utf-8", newline="") as output,
    ):
        try:
            csv.writer(output, lineterminator="\n").writerows(fiddler_rows(lines, header))
        except (csv.Error, UnicodeDecodeError) as error:
            raise RejectedError(0, "the reference rows are not CSV in UTF-8") from error
