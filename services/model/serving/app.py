"""One worker's application."""

import logging

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from bundle.load import load_bundle
from bundle.manifest import Manifest
from serving.answers import Answers
from serving.example import predict_example
from serving.feedback import Feedback
from serving.http.openapi import TAGS
from serving.http.predict_protocol import FastPath
from serving.http.router import add_api
from serving.http.routes import add_head
from serving.http.v2 import MODEL, VERSION
from serving.inputs import Inputs
from serving.metrics.feedback import FeedbackMetrics
from serving.metrics.http import HttpSlots, RouteMetrics, instrument
from serving.metrics.predictions import ModelMetrics
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.service import Service
from serving.settings import Settings, read_settings, split_keys
from serving.spool import Limits, Spool

log = logging.getLogger(__name__)

# Those that a client predicts with or sends labels to.
COUNTED_ROUTES = (
    *("/predict", "/predict/batch", "/feedback", "/invocations"),
    *(f"{path}/infer" for path in (MODEL, VERSION)),
)
_DAY = 86_400


def create_app(settings: Settings | None = None) -> FastAPI:
    """Return the application of one worker; gunicorn calls this once in each."""
    settings = settings or read_settings()
    service = create_service(settings)
    manifest = service.manifest
    app = FastAPIOffline(
        title=manifest.name,
        version=manifest.version,
        description=f"Predicts {manifest.target.name}: {manifest.target.description}.",
        openapi_tags=TAGS,
    )
    add_head(app.routes)
    instrument(app)
    add_api(app, service)
    log.info("ready", extra={"model": manifest.name, "version": manifest.version})
    http = HttpSlots(settings.metrics_dir, COUNTED_ROUTES)
    fast_path = FastPath(service, RouteMetrics(http, "/predict"))
    app.state.fast_path = fast_path if settings.fast_path else None
    return app


def create_service(settings: Settings) -> Service:
    """Load the bundle and build the service on it."""
    bundle = load_bundle(settings.bundle)
    manifest = bundle.manifest
    metrics = ModelMetrics(manifest, settings.metrics_dir)
    # The first call of an estimator is the slowest; no client should wait for it.
    example = predict_example(manifest, bundle.estimator)
    signer = Signer(split_keys(settings.prediction_keys), manifest.name, manifest.version)
    feedback_metrics = FeedbackMetrics(manifest, settings.metrics_dir)
    max_age = settings.feedback_max_days * _DAY
    spool = _create_spool(settings, manifest, metrics)
    return Service(
        manifest=manifest,
        inputs=Inputs(manifest, metrics.ignore),
        metrics=metrics,
        predictor=Predictor(bundle.estimator, signer, metrics, spool),
        answers=Answers(manifest),
        feedback=Feedback(manifest, signer, feedback_metrics, max_age, spool),
        max_body_bytes=settings.max_body_bytes,
        example=example,
    )


def _create_spool(settings: Settings, manifest: Manifest, metrics: ModelMetrics) -> Spool | None:
    if settings.spool_dir is None:
        return None
    limits = Limits(
        max_bytes=settings.spool_max_bytes,
        segment_bytes=settings.spool_segment_bytes,
        segment_seconds=settings.spool_segment_seconds,
    )
    return Spool(settings.spool_dir, manifest, limits, metrics.spool)
