"""Labels: the id of a prediction and its true value, from which the realized error is counted.

No database is needed, because the id contains the prediction, its time and its version. A worker
rejects duplicates of its last 100,000 labels. A duplicate that reaches another worker, or a worker
after a restart, is counted again.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from bundle.manifest import Manifest
from serving import events
from serving.inputs import MAX_ROWS, body_error
from serving.metrics.feedback import FeedbackMetrics
from serving.prediction_id import InvalidIdError, PredictionId, Signer
from serving.spool import Spool

REMEMBERED = 100_000


class Label(msgspec.Struct):
    """The true value of one prediction."""

    prediction_id: str
    actual: float


class Rejection(NamedTuple):
    """The reason why a label was rejected."""

    reason: str
    message: str


@dataclass(frozen=True)
class Limits:
    """The labels that are accepted: the target's range, and the maximum age in seconds."""

    minimum: float
    maximum: float
    max_age: float


class Feedback:
    """Checks and counts labels. Not thread-safe."""

    def __init__(
        self,
        manifest: Manifest,
        signer: Signer,
        metrics: FeedbackMetrics,
        max_age: float,
        spool: Spool | None = None,
    ) -> None:
        target = manifest.target
        self._limits = Limits(
            minimum=-np.inf if target.minimum is None else target.minimum,
            maximum=np.inf if target.maximum is None else target.maximum,
            max_age=max_age,
        )
        self._signer = signer
        self._metrics = metrics
        self._spool = spool
        self._seen: dict[bytes, None] = {}

    def accept(self, item: Any, now: float) -> Rejection | None:  # noqa: ANN401 anything a client sent
        """Count one label sent at `now` (seconds since 1970), or return why it is rejected."""
        checked = self._check(item, now)
        if isinstance(checked, Rejection):
            self._metrics.reject(checked.reason)
            return checked
        label, prediction = checked
        self._metrics.record(prediction, label.actual, max(0.0, now - prediction.time))
        self._remember(prediction.nonce)
        if self._spool is not None:
            self._spool.append(
                [events.Label(label.prediction_id, now, prediction.version, label.actual)]
            )
        return None

    def reject_body(self) -> None:
        """Count a request body without labels."""
        self._metrics.reject("malformed")

    def _check(self, item: Any, now: float) -> tuple[Label, PredictionId] | Rejection:  # noqa: ANN401
        try:
            label = msgspec.convert(item, Label)
        except (msgspec.ValidationError, OverflowError) as error:
            return Rejection("malformed", str(error))
        if not self._limits.minimum <= label.actual <= self._limits.maximum:
            return Rejection("malformed", "`actual` is outside the target's range")
        try:
            prediction = self._signer.read(label.prediction_id)
        except InvalidIdError as error:
            return Rejection("unknown", f"`prediction_id` is {error}")
        if now - prediction.time > self._limits.max_age:
            return Rejection("expired", "`prediction_id` is too old")
        if prediction.nonce in self._seen:
            return Rejection("duplicate", "this prediction already has its label")
        return label, prediction

    def _remember(self, nonce: bytes) -> None:
        if len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[nonce] = None


def decode_labels(body: bytes) -> list[Any]:
    """Return the unvalidated labels of a body: one object, or a list of at most 1,000.

    Raises InvalidInputError.
    """
    try:
        items = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise body_error("malformed", f"The body is not JSON: {error}") from None
    if isinstance(items, dict):
        items = [items]
    if not isinstance(items, list):
        raise body_error("type", "Send an object with prediction_id and actual, or a list of them")
    if not items:
        raise body_error("empty", "The list is empty")
    if len(items) > MAX_ROWS:
        raise body_error("too_many", f"More than {MAX_ROWS} labels")
    return items
