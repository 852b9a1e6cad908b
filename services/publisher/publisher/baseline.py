"""Give Fiddler the rows that the model was trained on: what it compares production with.

Fiddler's documented way is to upload rows; summaries, such as the bundle's deciles, it does not
take. So the bundle must carry `reference.csv`: a column per feature, the target, and `prediction`.
Without it Fiddler can only compare production with older production.
"""

import csv
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from publisher.errors import RefusedError, TransientError
from publisher.events import ModelName, model_name, output_name
from publisher.metrics import Metrics
from publisher.spool import Header

ROWS_FILE = "reference.csv"
PREDICTION = "prediction"
DATASET = "training"
# A baseline is in no hurry, and must not be in the way of events.
_PAUSE_SECONDS = 30.0

log = logging.getLogger(__name__)


class Destination(Protocol):
    """What the baseline needs of Fiddler."""

    def publish_baseline(self, name: ModelName, rows: Path, dataset: str) -> str | None:
        """Upload rows; return the job that reads them, None where they are there."""

    def job_state(self, job: str) -> tuple[str, str]:
        """Return a job's state and error."""


class NoRowsError(Exception):
    """The bundle has no usable reference rows; the message says why."""


class Baseline:
    """Uploads the reference rows of one bundle, once Fiddler has the model; a step at a time."""

    def __init__(
        self,
        bundle: Path | None,
        destination: Destination,
        metrics: Metrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._destination = destination
        self._metrics = metrics
        self._clock = clock
        self._header: Header | None = None
        self._job: str | None = None
        self._done = bundle is None
        self._next_at = 0.0

    def learn(self, header: Header) -> None:
        """Remember the model that the bundle is of."""
        if not self._done and self._header is None and _version(self._bundle) == header.version:
            self._header = header

    def advance(self) -> None:
        """Make the next step, if it is time for it. Raises HopelessError, never for the rows."""
        if self._done or self._header is None or self._clock() < self._next_at:
            return
        self._next_at = self._clock() + _PAUSE_SECONDS
        try:
            if self._job is None:
                self._upload(self._header)
            else:
                self._follow(self._job)
        except TransientError as error:
            log.warning("the baseline waits: %s", error)
        except (NoRowsError, RefusedError) as error:
            log.error("no baseline at Fiddler: %s", error)  # noqa: TRY400
            self._done = True

    def _upload(self, header: Header) -> None:
        assert self._bundle is not None  # noqa: S101 for the type checker
        with tempfile.TemporaryDirectory() as directory:
            rows = Path(directory) / ROWS_FILE
            write_rows(self._bundle, header, rows)
            self._job = self._destination.publish_baseline(model_name(header), rows, DATASET)
        if self._job is None:
            self._succeed()

    def _follow(self, job: str) -> None:
        state, error = self._destination.job_state(job)
        if state == "SUCCESS":
            self._succeed()
        elif state in ("FAILURE", "REVOKED"):
            raise RefusedError(0, f"Fiddler's job {job}: {state}: {error}")

    def _succeed(self) -> None:
        log.info("Fiddler has the training rows as baseline %s", DATASET)
        self._metrics.has_baseline()
        self._done = True


def write_rows(bundle: Path, header: Header, output: Path) -> None:
    """Write the bundle's reference rows under the names that Fiddler's model has for them.

    Raises NoRowsError.
    """
    source = bundle / ROWS_FILE
    expected = _manifest(bundle).get("files", {}).get(ROWS_FILE)
    if expected is None:
        raise NoRowsError(f"the bundle {bundle} carries no {ROWS_FILE}")
    try:
        content = source.read_bytes()
    except OSError as error:
        raise NoRowsError(f"{source}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != expected:
        raise NoRowsError(f"{source} is corrupt: its SHA-256 is not that of the manifest")
    first, _, rest = content.partition(b"\n")
    names = next(csv.reader([first.decode()]), [])
    target = header.target.name
    if sorted(names) != sorted([*(each.name for each in header.features), target, PREDICTION]):
        raise NoRowsError(f"{source} has other columns than the model: {', '.join(names)}")
    with output.open("w", newline="") as file:
        renamed = [output_name(target) if name == PREDICTION else name for name in names]
        csv.writer(file, lineterminator="\n").writerow(renamed)
        file.write(rest.decode())


def _version(bundle: Path | None) -> str | None:
    return None if bundle is None else _manifest(bundle).get("version")


def _manifest(bundle: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((bundle / "bundle.json").read_text())
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}
