"""What one worker serves with: bytes in, bytes out, no HTTP."""

import asyncio
from dataclasses import dataclass

from bundle.manifest import Manifest
from serving.answers import Answers
from serving.feedback import Feedback
from serving.inputs import OTHER, Decoded, Fault, Inputs
from serving.metrics import ModelMetrics
from serving.predictor import Prediction, Predictor, Waiting


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
        waiting: asyncio.Future[Prediction | None] = asyncio.get_running_loop().create_future()
        self.predict_soon(body, waiting)
        return self.answers.one(await waiting)

    def predict_soon(self, body: bytes | bytearray, waiting: Waiting) -> None:
        """Predict one row together with those that arrive meanwhile. Raises InvalidInputError."""
        decoded = self.inputs.one(body)
        self._count_ignored(decoded)
        self.predictor.soon(decoded.rows[0], waiting)

    def predict_batch(self, body: bytes) -> bytes:
        """Return the answer to `{"instances": [row, …]}`. Raises InvalidInputError."""
        decoded = self.inputs.many(body)
        self._count_ignored(decoded)
        return self.answers.many(self.predictor.many(decoded.rows))

    def _count_ignored(self, decoded: Decoded) -> None:
        if decoded.ignored:
            self.metrics.reject([Fault(OTHER, "unknown")] * decoded.ignored)
