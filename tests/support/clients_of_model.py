"""Clients that predict and label without end, and that a test can pause."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import cycle
from typing import Any

import httpx

from tests.support.example import TARGET, Row


class Clients:
    """What the model has accepted: predictions and true values by id."""

    def __init__(self, url: str, rows: Sequence[Row], number: int) -> None:
        self.predictions: dict[str, float] = {}
        self.labels: dict[str, float] = {}
        self._url = url
        self._rows = rows
        self._ended = threading.Event()
        self._between_requests = [threading.Lock() for _ in range(number)]

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send while the block runs. Raises what a client has raised."""
        with ThreadPoolExecutor(len(self._between_requests)) as pool:
            running = [
                pool.submit(self._send, client, lock)
                for client, lock in enumerate(self._between_requests)
            ]
            try:
                yield
            finally:
                self._ended.set()
            for each in running:
                each.result()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have no request in flight while the block runs."""
        with ExitStack() as stack:
            for each in self._between_requests:
                stack.enter_context(each)
            yield

    def _send(self, client: int, lock: threading.Lock) -> None:
        rows = cycle(self._rows[client :: len(self._between_requests)])
        with httpx.Client(base_url=self._url, timeout=30) as http:
            for number, row in enumerate(rows):
                if self._ended.is_set():
                    return
                with lock:
                    self._predict_and_label(http, row, float(number % 10))

    def _predict_and_label(self, http: httpx.Client, row: Row, actual: float) -> None:
        answer = _post(http, "/predict", row)
        key = answer["prediction_id"]
        self.predictions[key] = answer[TARGET]
        assert _post(http, "/feedback", {"prediction_id": key, "actual": actual})["accepted"] == 1
        self.labels[key] = actual


def _post(http: httpx.Client, path: str, body: Mapping[str, object]) -> Any:  # noqa: ANN401 any JSON
    """Return the answer; a worker that was killed between requests has left a dead connection."""
    while True:
        try:
            return http.post(path, json=body).raise_for_status().json()
        except (httpx.ReadError, httpx.RemoteProtocolError, httpx.WriteError):
            continue
