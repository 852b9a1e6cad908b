"""What one worker serves with, and the policies that every protocol shares."""

import logging
from dataclasses import dataclass

from bundle.manifest import Manifest
from serving.answers import CLIENT_CLOSED, FAILURE, Answer, Answers, encode_rejection
from serving.feedback import Feedback
from serving.inputs import Inputs, InvalidInputError
from serving.metrics.predictions import ModelMetrics
from serving.predictor import Predictor

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
    max_body_bytes: int

    async def predict(self, body: bytes) -> Answer:
        """Return the answer to one row. Raises InvalidInputError."""
        return self.answers.encode(await self.predictor.predict(self.inputs.decode_row(body)))

    async def predict_batch(self, body: bytes) -> Answer:
        """Return the answer to `{"instances": [row, …]}`. Raises InvalidInputError."""
        rows = self.inputs.decode_batch(body)
        return self.answers.encode_batch(self.predictor.predict_batch(rows))

    def answer_error(self, error: Exception, *, is_feedback: bool = False) -> Answer:
        """Return the answer to a request that was not served, and count or log the reason."""
        if isinstance(error, InvalidInputError):
            if is_feedback:
                self.feedback.reject_body()
            else:
                self.metrics.reject(error.faults, error.rows)
            return encode_rejection(error)
        if isinstance(error, ClientGoneError):
            return CLIENT_CLOSED
        log.error("a request failed", exc_info=error)
        return FAILURE
