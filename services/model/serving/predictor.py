"""The one place where features become a prediction.

Rows that arrive within one turn of the event loop are predicted in one call: an estimator's cost
is mostly per call, so load makes it cheaper per row, and a lone request waits for nobody.
"""

import asyncio
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.load import Estimator
from serving.inputs import Row
from serving.metrics import ModelMetrics

Floats = NDArray[np.float64]


class Predictor:
    """Predicts rows with one estimator and has every call counted."""

    def __init__(self, estimator: Estimator, metrics: ModelMetrics) -> None:
        self._estimator = estimator
        self._metrics = metrics
        self._waiting: list[tuple[Row, asyncio.Future[float]]] = []

    async def one(self, row: Row) -> float:
        """Return the prediction of one row; NaN where the estimator has none."""
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._predict_waiting)
        answer: asyncio.Future[float] = loop.create_future()
        self._waiting.append((row, answer))
        return await answer

    def many(self, rows: Sequence[Row]) -> list[float]:
        """Return the predictions of rows; NaN where the estimator has none."""
        features = np.array(rows, dtype=np.float64)
        start = time.perf_counter()
        predictions = self._evaluate(features)
        seconds = time.perf_counter() - start
        known = np.isfinite(predictions)
        if not known.all():
            self._metrics.record(features[known], predictions[known], seconds)
        else:
            self._metrics.record(features, predictions, seconds)
        answers: list[float] = predictions.tolist()
        return answers

    def _predict_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        try:
            predictions = self.many([row for row, _ in waiting])
        except Exception as error:  # noqa: BLE001 it goes to those who wait
            for _, answer in waiting:
                if not answer.done():
                    answer.set_exception(error)
            return
        for (_, answer), prediction in zip(waiting, predictions, strict=True):
            # A client that went away has cancelled its future.
            if not answer.done():
                answer.set_result(prediction)

    def _evaluate(self, features: Floats) -> Floats:
        """Return predictions (n,); one row the estimator refuses must not fail its neighbours."""
        try:
            return np.asarray(self._estimator.predict(features), dtype=np.float64)
        except ValueError:
            if len(features) == 1:
                return np.array([np.nan])
            return np.concatenate([self._evaluate(row[None]) for row in features])
