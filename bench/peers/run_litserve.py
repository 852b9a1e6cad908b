"""The model served by LitServe: `python run_litserve.py PORT ROWS_PER_BATCH`."""

import os
import sys
from typing import Any

import joblib
import litserve  # type: ignore[import-not-found]  # installed in its own environment
import numpy as np


class Single(litserve.LitAPI):  # type: ignore[misc]
    """One call of the model per request."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        """Load the model."""
        self._model = joblib.load(os.environ["BENCH_MODEL"])

    def decode_request(self, request: dict[str, list[float]]) -> list[float]:
        """Return the row of a request."""
        return request["row"]

    def predict(self, row: list[float]) -> float:
        """Return the prediction of one row."""
        return float(self._model.predict([row])[0])

    def encode_response(self, prediction: float) -> dict[str, float]:
        """Return the response of a prediction."""
        return {"prediction": prediction}


class Batching(Single):
    """One call of the model per batch of requests."""

    def batch(self, rows: list[list[float]]) -> Any:  # noqa: ANN401
        """Return the rows of a batch as one array."""
        return np.array(rows)

    def predict(self, rows: Any) -> Any:  # noqa: ANN401
        """Return the predictions of a batch."""
        return self._model.predict(rows)

    def unbatch(self, predictions: Any) -> list[float]:  # noqa: ANN401
        """Return the prediction of each request."""
        split: list[float] = predictions.tolist()
        return split


if __name__ == "__main__":
    port, rows = map(int, sys.argv[1:])
    api = Single() if rows == 1 else Batching(max_batch_size=rows, batch_timeout=0.005)
    litserve.LitServer(api, accelerator="cpu", workers_per_device=1).run(
        host="127.0.0.1", port=port, generate_client_file=False, log_level="warning"
    )
