"""What one worker serves with, and the policies that every protocol shares."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bundle.manifest import Manifest
from serving.answers import (
    CLIENT_CLOSED,
    DETAIL,
    Answer,
    Answers,
    ErrorForm,
    encode_error,
    require_all,
)
from serving.events import Prediction
from serving.feedback import Feedback
from serving.inputs import Inputs, InvalidInputError
from serving.metrics.predictions import ModelMetrics
from serving.metrics.rejections import Rejections
from serving.overload import Load, OverloadError, describe_overload
from serving.predictor import Predictor
from serving.spool import Spool

log = logging.getLogger(__name__)


class ClientGoneError(Exception):
    """The client closed its connection before its body was complete."""


@dataclass(frozen=True)
class Service:
    """The parts of the service: inputs → predictor → answers, feedback, and metrics."""

    manifest: Manifest
    inputs: Inputs
    predictor: Predictor
    answers: Answers
    feedback: Feedback
    metrics: ModelMetrics
    rejections: Rejections
    load: Load
    spool: Spool | None
    max_body_bytes: int
    # Of the bundle's example row; for the documentation, not counted.
    example: Prediction

    def catch_up(self) -> None:
        """Do what no request waits for. Called every second, and at the end."""
        self.metrics.catch_up()
        if self.spool is not None:
            self.spool.close_if_old()

    async def predict(self, body: bytes) -> Answer:
        """Return the answer to one row. Raises InvalidInputError."""
        return self.answers.encode(await self.predictor.predict(self.inputs.decode_row(body)))

    async def predict_batch(self, body: bytes) -> Answer:
        """Return the answer to `{"instances": [row, …]}`. Raises InvalidInputError."""
        rows = self.inputs.decode_batch(body)
        return self.answers.encode_batch(self.predictor.predict_batch(rows))

    def predict_records(self, records: Sequence[Any], ignored: int) -> list[Prediction]:
        """Return the predictions of records (see Inputs). Raises InvalidInputError."""
        rows = self.inputs.decode_records(records, ignored)
        return require_all(self.predictor.predict_batch(rows))

    def answer_error(
        self, error: Exception, form: ErrorForm = DETAIL, *, is_feedback: bool = False
    ) -> Answer:
        """Return the answer to a request that was not served, and count or log the reason."""
        if isinstance(error, ClientGoneError):
            return CLIENT_CLOSED
        if isinstance(error, OverloadError):
            self.rejections.count(error.reason)
            return encode_error(describe_overload(), form)
        if not isinstance(error, InvalidInputError):
            log.error("a request failed", exc_info=error)
        elif is_feedback:
            self.feedback.reject_body()
        else:
            self.metrics.reject(error.faults, error.rows)
        return encode_error(error, form)
