"""Turns features into predictions, in one place for all routes.

Rows that arrive together are predicted in one call, because most of an estimator's time is spent
per call; so the time per row decreases under load. No timer is used: rows are collected while each
iteration of the event loop adds one, and a single row is predicted in the next iteration.
"""

import asyncio
import time
from collections.abc import Sequence
from math import isfinite
from typing import Protocol

import numpy as np

from bundle.arrays import Floats
from bundle.load import Estimator
from serving.events import Prediction
from serving.inputs import Row
from serving.metrics.predictions import ModelMetrics
from serving.prediction_id import Signer
from serving.spool import Spool

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
    """Predicts rows with one estimator; signs, counts and, given a spool, spools each prediction.

    Spooling precedes the answer, so a worker that dies loses no answered prediction.
    """

    def __init__(
        self,
        estimator: Estimator,
        signer: Signer,
        metrics: ModelMetrics,
        spool: Spool | None = None,
    ) -> None:
        self._estimator = estimator
        self._signer = signer
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
        features = np.array(rows, dtype=np.float64)
        start = time.perf_counter()
        values = self._evaluate(features)
        seconds = time.perf_counter() - start
        now = time.time()
        predictions = [
            Prediction(self._signer.sign(value, now), now, row, value) if isfinite(value) else None
            for row, value in zip(rows, values.tolist(), strict=True)
        ]
        made = [each for each in predictions if each]
        if len(made) < len(rows):
            finite = np.isfinite(values)
            features, values = features[finite], values[finite]
        self._metrics.record(features, values, seconds)
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

    def _evaluate(self, features: Floats) -> Floats:
        """Return predictions (n,), NaN for a row that the estimator rejects."""
        try:
            return np.asarray(self._estimator.predict(features), dtype=np.float64)
        except ValueError:
            if len(features) == 1:
                return np.array([np.nan])
            return np.concatenate([self._evaluate(row[None]) for row in features])
