"""The design of jeremyjordan/ml-monitoring on current versions of its libraries.

A `def` endpoint in the thread pool calls the scaler and then the model, and puts the prediction
into a response header, from which a metric of prometheus-fastapi-instrumentator reads it.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import joblib
import numpy as np
from fastapi import FastAPI, Response
from prometheus_client import Histogram
from prometheus_fastapi_instrumentator import Instrumentator, metrics
from prometheus_fastapi_instrumentator.metrics import Info
from pydantic import BaseModel, Field, create_model

from bundle.load import load_manifest
from bundle.manifest import Quantity

_MODEL = Path(os.environ["BENCH_MODEL"])
_MANIFEST = load_manifest(_MODEL.parent)
_NAMES = [feature.name for feature in _MANIFEST.features]
_TARGET = _MANIFEST.target.name


def _schema(name: str, quantities: Iterable[Quantity]) -> type[BaseModel]:
    """Return a pydantic model of bounded numbers."""
    fields = {each.name: (float, Field(ge=each.minimum, le=each.maximum)) for each in quantities}
    return create_model(name, **fields)  # type: ignore[call-overload,no-any-return]


Instance = _schema("Instance", _MANIFEST.features)
Prediction = _schema("Prediction", [_MANIFEST.target])


def _observe_output() -> Callable[[Info], None]:
    """Return a metric that observes the prediction in a response's header."""
    bounds = (*np.arange(0, 10.5, 0.5).tolist(), float("inf"))
    histogram = Histogram("regression_model_output", "Predictions.", buckets=bounds)

    def observe(info: Info) -> None:
        score = info.response.headers.get("X-model-score") if info.response else None
        if info.modified_handler == "/predict" and score:
            histogram.observe(float(score))

    return observe


def create_app() -> FastAPI:
    """Return the application."""
    app = FastAPI()
    scaler, model = joblib.load(_MODEL)
    instrumentator = Instrumentator(
        should_ignore_untemplated=True,
        should_instrument_requests_inprogress=True,
        excluded_handlers=["/metrics"],
        inprogress_name="fastapi_inprogress",
        inprogress_labels=True,
    )
    instrumentator.add(
        metrics.request_size(),
        metrics.response_size(),
        metrics.latency(),
        metrics.requests(),
        _observe_output(),
    )
    instrumentator.instrument(app).expose(app, include_in_schema=False, should_gzip=True)

    @app.post("/predict")
    def predict(response: Response, instance: Instance) -> Prediction:  # type: ignore[valid-type]
        values = instance.model_dump()  # type: ignore[attr-defined]
        row = np.array([values[name] for name in _NAMES]).reshape(1, -1)
        score = model.predict(scaler.transform(row))[0]
        response.headers["X-model-score"] = str(score)
        return Prediction(**{_TARGET: score})

    return app
