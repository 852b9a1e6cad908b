"""Turns features into predictions, in one place for all routes.

Rows that arrive together are predicted in one call, because most of an estimator's time is spent
per call; so the time per row decreases under load. No timer is used: rows are collected while each
iteration of the event loop adds one, and a single row is predicted in the next iteration.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from bundle.arrays import Floats
from bundle.encode import Encoder
from bundle.estimator import Model
from serving.events import Prediction
from serving.metrics.predictions import ModelMetrics
from serving.outcomes import Outcomes, is_finite
from serving.spool import Spool
from serving.values import Row

# This many rows are predicted even while more arrive: the time per row decreases no further.
_ENOUGH = 64


class Waiter(Protocol):
    """The part of a future's interface that the predictor uses."""

    def done(self) -> bool:
        """Return whether a prediction is no longer needed."""

    def set_result(self, result: Prediction | None, /) -> None:
        """Receive the prediction, or None if it is not finite."""

    def set_exception(self, exception: Exception, /) -> None:
        """Receive the exception that the estimator raised."""


class Predictor:
    """Predicts rows with one model; signs, counts and, given a spool, spools each prediction.

    Spooling precedes the answer, so a worker that dies loses no answered prediction.
    """

    def __init__(
        self,
        model: Model,
        encoder: Encoder,
        outcomes: Outcomes,
        metrics: ModelMetrics,
        spool: Spool | None = None,
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._outcomes = outcomes
        self._metrics = metrics
        self._spool = spool
        self._queue: list[tuple[Row, Waiter]] = []

    async def predict(self, row: Row) -> Prediction | None:
        """Return the prediction of one row, or None if it is not finite."""
        future: asyncio.Future[Prediction | None] = asyncio.get_running_loop().create_future()
        self.enqueue(row, future)
        return await future

    def enqueue(self, row: Row, waiter: Waiter) -> None:
        """Predict one row together with those that arrive meanwhile."""
        if not self._queue:
            asyncio.get_running_loop().call_soon(self._collect, 1)
        self._queue.append((row, waiter))

    def predict_batch(self, rows: Sequence[Row]) -> list[Prediction | None]:
        """Return the prediction of each row, or None if it is not finite."""
        codes = self._encoder.codes(rows)
        start = time.perf_counter()
        outputs = self._evaluate(rows, codes)
        seconds = time.perf_counter() - start
        predictions = self._outcomes.predictions(outputs, codes, rows, time.time())
        made = [each for each in predictions if each]
        if len(made) < len(rows):
            finite = is_finite(outputs)
            codes, outputs = codes[finite], outputs[finite]
        self._metrics.record(codes, outputs, seconds)
        if self._spool is not None:
            self._spool.append(made)
        return predictions

    def _collect(self, seen: int) -> None:
        """Predict the queue, unless the last iteration added rows to the `seen` ones."""
        queued = len(self._queue)
        if seen < queued < _ENOUGH:
            asyncio.get_running_loop().call_soon(self._collect, queued)
        else:
            self._predict_queue()

    def _predict_queue(self) -> None:
        queue, self._queue = self._queue, []
        try:
            predictions = self.predict_batch([row for row, _ in queue])
        except Exception as error:  # noqa: BLE001 passed to the waiters
            for _, waiter in queue:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for (_, waiter), prediction in zip(queue, predictions, strict=True):
            # The future of a client that disconnected is cancelled.
            if not waiter.done():
                waiter.set_result(prediction)

    def _evaluate(self, rows: Sequence[Row], codes: Floats) -> Floats:
        """Return the outputs for n rows, NaN for a row that the estimator rejects."""
        try:
            return self._model.predict(rows, codes)
        except ValueError:
            if len(rows) == 1:
                return self._outcomes.rejected
            return np.concatenate(
                [self._evaluate(rows[i : i + 1], codes[i : i + 1]) for i in range(len(rows))]
            )
