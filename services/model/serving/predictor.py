"""The one place where features become a prediction.

Rows that arrive together are predicted in one call: an estimator's cost is mostly per call, so load
makes it cheaper per row. Nobody waits on a timer. Rows are gathered for as long as each turn of the
event loop brings another one, and a lone request is predicted at the next turn.
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

# So many rows are predicted whether or not more arrive: a row's cost falls no further.
_ENOUGH = 64


class Waiting(Protocol):
    """What waits for a prediction: a future, or what behaves like one."""

    def done(self) -> bool:
        """Tell whether it waits no more."""

    def set_result(self, result: Prediction | None, /) -> None:
        """Receive the prediction, None where the estimator has no finite one."""

    def set_exception(self, exception: Exception, /) -> None:
        """Receive what the estimator raised."""


class Predictor:
    """Predicts rows with one estimator; every prediction is signed, counted, and spooled if wanted.

    Spooled before anybody has the answer: no accepted prediction is lost with its worker.
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
        self._waiting: list[tuple[Row, Waiting]] = []

    async def one(self, row: Row) -> Prediction | None:
        """Return the prediction of one row, None where the estimator has no finite one."""
        waiting: asyncio.Future[Prediction | None] = asyncio.get_running_loop().create_future()
        self.soon(row, waiting)
        return await waiting

    def soon(self, row: Row, waiting: Waiting) -> None:
        """Predict one row, together with those that arrive meanwhile."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._gather, 1)
        self._waiting.append((row, waiting))

    def many(self, rows: Sequence[Row]) -> list[Prediction | None]:
        """Return the predictions of rows, None where the estimator has no finite one."""
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

    def _gather(self, seen: int) -> None:
        """Predict the rows that wait, or look again if the last turn brought more than `seen`."""
        waiting = len(self._waiting)
        if seen < waiting < _ENOUGH:
            asyncio.get_running_loop().call_soon(self._gather, waiting)
        else:
            self._predict_waiting()

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
