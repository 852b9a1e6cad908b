"""The model served by BentoML; `Batching` collects requests into batches."""

import os
from pathlib import Path

import bentoml  # type: ignore[import-not-found]  # installed in its own environment
import joblib
import numpy as np

MODEL = Path(os.environ["BENCH_MODEL"])


@bentoml.service
class Single:
    """One call of the model per request."""

    def __init__(self) -> None:
        self._model = joblib.load(MODEL)

    @bentoml.api  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the predictions of rows."""
        return self._model.predict(rows)  # type: ignore[no-any-return]


@bentoml.service
class Batching:
    """One call of the model per batch of requests."""

    def __init__(self) -> None:
        self._model = joblib.load(MODEL)

    @bentoml.api(batchable=True, max_batch_size=100, max_latency_ms=1000)  # type: ignore[untyped-decorator]
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return the predictions of rows."""
        return self._model.predict(rows)  # type: ignore[no-any-return]
