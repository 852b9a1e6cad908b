"""Labels: the id of a prediction and its true value, from which the realized error is counted.

No database is needed, because the id contains the prediction, its time and its version. The workers
of a service reject duplicates of its last labels (seen_ids.py). A duplicate that reaches another
replica, or comes after a restart, is counted again.
"""

from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import numpy as np

from bundle.manifest import Manifest, Value
from serving import events
from serving.classified import Classified, fingerprint
from serving.inputs import MAX_ROWS, body_error
from serving.metrics.feedback import (
    MAX_CONFUSION_CLASSES,
    ClassFeedbackMetrics,
    FeedbackMetrics,
)
from serving.prediction_id import InvalidIdError, PredictionId, Signer
from serving.seen_ids import SeenIds
from serving.spool import Spool
from serving.values import to_text

_OTHER_TASK = "of a version with another task"


class Label(msgspec.Struct):
    """The true value of one prediction."""

    prediction_id: str
    actual: float


class ClassLabel(msgspec.Struct):
    """The true class of one prediction."""

    prediction_id: str
    actual: bool | int | float | str


class Rejection(NamedTuple):
    """The reason why a label was rejected."""

    reason: str
    message: str


class Numbers:
    """The true values of a regression."""

    expected = "`actual` is outside the target's range"

    def __init__(self, manifest: Manifest, metrics: FeedbackMetrics) -> None:
        target = manifest.target
        self._minimum = -np.inf if target.minimum is None else target.minimum
        self._maximum = np.inf if target.maximum is None else target.maximum
        self.metrics = metrics

    def convert(self, item: Any) -> Label:  # noqa: ANN401 anything a client sent
        """Return a label. Raises ValidationError or OverflowError."""
        return msgspec.convert(item, Label)

    def parse(self, actual: Value) -> Value | None:
        """Return a value within the target's range, else None."""
        return actual if self._minimum <= float(actual) <= self._maximum else None

    def complaint(self, prediction: PredictionId) -> str | None:
        """Return why the prediction of an id cannot be compared, or None."""
        return _OTHER_TASK if isinstance(prediction.prediction, Classified) else None

    def record(self, prediction: PredictionId, actual: Value, delay: float) -> None:
        """Count a value."""
        predicted = cast("float", prediction.prediction)
        version, mark = prediction.version, prediction.mark
        self.metrics.record(version, predicted, float(actual), delay, mark)


class Classes:
    """The true classes of a classification."""

    def __init__(self, manifest: Manifest, metrics: ClassFeedbackMetrics) -> None:
        self._classes = manifest.classes
        # True equals 1, and is no number of a class.
        self._codes = {_key(each): code for code, each in enumerate(manifest.classes)}
        self._fingerprint = fingerprint(manifest.classes)
        known = ", ".join(map(to_text, manifest.classes[:MAX_CONFUSION_CLASSES]))
        self.expected = f"`actual` is not one of the classes {known}"
        self.metrics = metrics

    def convert(self, item: Any) -> ClassLabel:  # noqa: ANN401 anything a client sent
        """Return a label. Raises ValidationError or OverflowError."""
        return msgspec.convert(item, ClassLabel)

    def parse(self, actual: Value) -> Value | None:
        """Return a class as the bundle spells it, else None."""
        code = self._codes.get(_key(actual))
        return None if code is None else self._classes[code]

    def complaint(self, prediction: PredictionId) -> str | None:
        """Return why the prediction of an id cannot be compared, or None."""
        if not isinstance(prediction.prediction, Classified):
            return _OTHER_TASK
        code, mark, probabilities = prediction.prediction
        number = len(self._classes)
        # Two lists may have the same fingerprint, once in 65,536 times.
        fits = code < number and (probabilities is None or len(probabilities) == number)
        return None if fits and mark == self._fingerprint else "of a version with other classes"

    def record(self, prediction: PredictionId, actual: Value, delay: float) -> None:
        """Count a class."""
        predicted = cast("Classified", prediction.prediction)
        code, mark = self._codes[_key(actual)], prediction.mark
        self.metrics.record(prediction.version, predicted, code, delay, mark)


def create_truths(manifest: Manifest, directory: Path) -> Numbers | Classes:
    """Return what checks and counts the true values of a model's task, in a metrics directory."""
    if manifest.task == "regression":
        return Numbers(manifest, FeedbackMetrics(manifest, directory))
    return Classes(manifest, ClassFeedbackMetrics(manifest, directory))


class Feedback:
    """Checks and counts labels. Not thread-safe."""

    def __init__(
        self,
        truths: Numbers | Classes,
        signer: Signer,
        max_age: float,
        spool: Spool | None = None,
        *,
        seen: SeenIds | None = None,
    ) -> None:
        self._truths = truths
        self._max_age = max_age
        self._signer = signer
        self._spool = spool
        self._seen = seen or SeenIds()

    def accept(self, item: Any, now: float) -> Rejection | None:  # noqa: ANN401 anything a client sent
        """Count one label sent at `now` (seconds since 1970), or return why it is rejected."""
        checked = self._check(item, now)
        if isinstance(checked, Rejection):
            self._truths.metrics.reject(checked.reason)
            return checked
        prediction_id, prediction, actual = checked
        self._truths.record(prediction, actual, max(0.0, now - prediction.time))
        if self._spool is not None:
            self._spool.append([events.Label(prediction_id, now, prediction.version, actual)])
        return None

    def reject_body(self) -> None:
        """Count a request body without labels."""
        self._truths.metrics.reject("malformed")

    def _check(self, item: Any, now: float) -> tuple[str, PredictionId, Value] | Rejection:  # noqa: ANN401
        try:
            label = self._truths.convert(item)
        except (msgspec.ValidationError, OverflowError) as error:
            return Rejection("malformed", str(error))
        actual = self._truths.parse(label.actual)
        if actual is None:
            return Rejection("malformed", self._truths.expected)
        try:
            prediction = self._signer.read(label.prediction_id)
        except InvalidIdError as error:
            return Rejection("unknown", f"`prediction_id` is {error}")
        return self._reject(prediction, now) or (label.prediction_id, prediction, actual)

    def _reject(self, prediction: PredictionId, now: float) -> Rejection | None:
        if complaint := self._truths.complaint(prediction):
            return Rejection("unknown", f"`prediction_id` is {complaint}")
        if now - prediction.time > self._max_age:
            return Rejection("expired", "`prediction_id` is too old")
        if not self._seen.add(prediction.nonce):
            return Rejection("duplicate", "this prediction already has its label")
        return None


def _key(value: Value) -> tuple[bool, Value]:
    return isinstance(value, bool), value


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
