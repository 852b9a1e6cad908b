"""The service without metrics: the same requests and responses, but nothing is counted."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette

from bundle.arrays import Floats
from bundle.load import load_bundle
from serving.app import create_service
from serving.http.predict_protocol import FastPath
from serving.inputs import Fault
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.settings import read_settings, split_keys


class NoMetrics:
    """Stands in for ModelMetrics, and for RouteMetrics."""

    def record(self, rows: Floats, predictions: Floats, seconds: float) -> None:
        """Count no prediction."""

    def reject(self, faults: Iterable[Fault], rows: int) -> None:
        """Count no rejection."""

    def start(self) -> None:
        """Count no request."""

    def finish(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count no answer."""


def create_app() -> Starlette:
    """Return an application of the fast path alone, with ids but without metrics."""
    settings = read_settings()
    bundle = load_bundle(settings.bundle)
    no_metrics: Any = NoMetrics()
    signer = Signer(split_keys(settings.prediction_keys), bundle.manifest.name, "")
    service = replace(
        create_service(settings),
        metrics=no_metrics,
        predictor=Predictor(bundle.estimator, signer, no_metrics),
    )
    app = Starlette()
    app.state.fast_path = FastPath(service, no_metrics)
    return app
