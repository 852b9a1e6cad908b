"""The service without its metrics: the same bytes in, the same bytes out, nothing counted."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from starlette.types import ASGIApp, Receive, Scope, Send

from bundle.load import load_bundle
from serving.app import create_service
from serving.fast_path import FastPath
from serving.inputs import Fault
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.settings import read_settings, split_keys

Floats = NDArray[np.float64]


class NoMetrics:
    """Stands in for ModelMetrics, and for RouteMetrics."""

    def record(self, rows: Floats, predictions: Floats, seconds: float) -> None:
        """Count no prediction."""

    def reject(self, faults: Iterable[Fault]) -> None:
        """Count no fault."""

    def start(self) -> None:
        """Count no request."""

    def finish(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count no answer."""


def create_app() -> ASGIApp:
    """Return the fast path alone, with ids but without metrics."""
    settings = read_settings()
    bundle = load_bundle(settings.bundle)
    nothing: Any = NoMetrics()
    signer = Signer(split_keys(settings.prediction_keys), bundle.manifest.name, "")
    service = replace(
        create_service(settings),
        metrics=nothing,
        predictor=Predictor(bundle.estimator, signer, nothing),
    )
    return FastPath(_nothing_else, service, nothing)


async def _nothing_else(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "http":
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body"})
