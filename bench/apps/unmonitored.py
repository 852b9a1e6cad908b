"""The service without metrics: the same requests and responses, but nothing is counted."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette

from bundle.arrays import Floats
from bundle.encode import Encoder
from bundle.load import load_bundle
from serving.app import create_service
from serving.http.gatekeeper import Gatekeeper
from serving.http.predict_protocol import FastPath
from serving.inputs import Fault
from serving.outcomes import create_outcomes
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.segments import mark_bytes
from serving.settings import read_settings, split_keys


class NoMetrics:
    """Stands in for ModelMetrics, RouteMetrics and LoopLag."""

    def record(self, rows: Floats, predictions: Floats, seconds: float) -> None:
        """Count no prediction."""

    def catch_up(self) -> None:
        """Count no repeat."""

    def reject(self, faults: Iterable[Fault], rows: int) -> None:
        """Count no rejection."""

    def start(self) -> None:
        """Count no request."""

    def answer(self, status: int) -> None:
        """Count no answer."""

    def finish(self, status: int, seconds: float, received: int, sent: int) -> None:
        """Count no answer."""

    def observe(self, seconds: float) -> None:
        """Count no delay."""


def create_app() -> Starlette:
    """Return an application of the fast path alone, with ids but without metrics."""
    settings = read_settings()
    bundle = load_bundle(settings.bundle)
    no_metrics: Any = NoMetrics()
    keys, manifest = split_keys(settings.prediction_keys), bundle.manifest
    signer = Signer(keys, manifest.name, "", mark_bytes(manifest))
    service = replace(
        create_service(settings),
        metrics=no_metrics,
        predictor=Predictor(
            bundle.model,
            Encoder(bundle.manifest.features),
            create_outcomes(bundle.manifest, signer),
            no_metrics,
        ),
    )
    app = Starlette()
    app.state.fast_path = FastPath(service, no_metrics)
    app.state.loop_lag = no_metrics
    app.state.catch_up = service.catch_up
    app.state.gatekeeper = Gatekeeper(settings, service.rejections, service.load)
    return app
