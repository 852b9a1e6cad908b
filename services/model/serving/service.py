"""What one worker serves with: bytes in, bytes out, no HTTP."""

from dataclasses import dataclass

from bundle.manifest import Manifest
from serving.answers import Answers
from serving.feedback import Feedback
from serving.inputs import OTHER, Decoded, Fault, Inputs, Row
from serving.metrics.predictions import ModelMetrics
from serving.predictor import Predictor, Waiting


@dataclass(frozen=True)
class Service:
    """The parts, and the way of a body through them."""

    manifest: Manifest
    inputs: Inputs
    predictor: Predictor
    answers: Answers
    feedback: Feedback
    metrics: ModelMetrics
    max_body_bytes: int

    async def predict(self, body: bytes) -> bytes:
        """Return the answer to one row. Raises InvalidInputError."""
        return self.answers.one(await self.predictor.one(self._row(body)))

    def predict_soon(self, body: bytes | bytearray, waiting: Waiting) -> None:
        """Predict one row together with those that arrive meanwhile. Raises InvalidInputError."""
        self.predictor.soon(self._row(body), waiting)

    def predict_batch(self, body: bytes) -> bytes:
        """Return the answer to `{"instances": [row, …]}`. Raises InvalidInputError."""
        decoded = self.inputs.many(body)
        self._count_ignored(decoded)
        return self.answers.many(self.predictor.many(decoded.rows))

    def _row(self, body: bytes | bytearray) -> Row:
        decoded = self.inputs.one(body)
        self._count_ignored(decoded)
        return decoded.rows[0]

    def _count_ignored(self, decoded: Decoded) -> None:
        if decoded.ignored:
            self.metrics.reject([Fault(OTHER, "unknown")] * decoded.ignored)
