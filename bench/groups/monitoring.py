"""The cost of monitoring inside a worker: per row of a batch, and per request."""

import asyncio
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from bench.bench import Bench
from bench.clock import microseconds
from bench.report import Section, at_most, number_text
from bundle.estimator import Model
from bundle.load import load_bundle
from serving.app import COUNTED_ROUTES
from serving.metrics.http import HttpSlots, RouteMetrics
from serving.metrics.predictions import ModelMetrics

_BATCHES = (1, 10, 100, 1000)


def measure(bench: Bench) -> Section:
    """Measure the processor time of each part."""
    bundle = load_bundle(bench.bundle)
    directory = Path(tempfile.mkdtemp(dir=bench.directory))
    metrics = ModelMetrics(bundle.manifest, directory)
    http = HttpSlots(directory, COUNTED_ROUTES)
    per_row = {rows: _per_row(bench, bundle.model, metrics, rows) for rows in _BATCHES}
    signals = len(bundle.manifest.reference)
    return Section(
        f"µs per row in a worker, by rows per call ({signals} signals)",
        [
            ["", *(f"{rows:,}" for rows in _BATCHES)],
            ["counting", *(number_text(counting) for counting, _ in per_row.values())],
            ["predicting, compiled", *(number_text(predict) for _, predict in per_row.values())],
            ["http_* families", *(number_text(_per_request(bench, http, n)) for n in _BATCHES)],
        ],
        [
            at_most(
                "monitoring",
                f"counting {signals} signals of a row, 100 rows per call",
                per_row[100][0],
                1,
                " µs",
            )
        ],
    )


def _per_row(bench: Bench, model: Model, metrics: ModelMetrics, rows: int) -> tuple[float, float]:
    """Return the µs per row of counting and of predicting."""
    codes = np.resize([[*row.values()] for row in bench.rows], (rows, len(bench.rows[0])))
    cells = codes.tolist()
    predictions = model.predict(cells, codes)
    counting = _of(lambda: metrics.record(codes, predictions, 1e-4), bench)
    return counting / rows, _of(lambda: model.predict(cells, codes), bench) / rows


def _per_request(bench: Bench, http: HttpSlots, requests: int) -> float:
    """Return the µs per request, for a number of requests in one iteration of an event loop."""
    route = RouteMetrics(http, "/predict")

    def turn() -> None:
        for _ in range(requests):
            route.start()
            route.answer(200)
            route.finish(200, 1e-3, 230, 150)
        route.write()

    async def measured() -> float:
        return _of(turn, bench) / requests

    return asyncio.run(measured())


def _of(call: Callable[[], object], bench: Bench) -> float:
    return microseconds(call, bench.rounds)
