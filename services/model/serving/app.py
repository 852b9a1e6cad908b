"""One worker's application."""

import json
import logging

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline

from bundle.encode import Encoder
from bundle.load import load_bundle
from bundle.manifest import Manifest
from serving import logs, master
from serving.answers import Answers
from serving.example import example_row, predict_example
from serving.feedback import Feedback, create_truths
from serving.http.gatekeeper import Gatekeeper
from serving.http.openapi import TAGS
from serving.http.predict_protocol import FastPath
from serving.http.router import add_api
from serving.http.routes import add_head
from serving.http.v2 import MODEL, VERSION
from serving.inputs import Inputs
from serving.metrics.http import CountRequests, HttpSlots, RouteMetrics
from serving.metrics.loop_lag import LoopLag
from serving.metrics.predictions import ModelMetrics
from serving.metrics.rejections import Rejections
from serving.outcomes import create_outcomes
from serving.overload import Load
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.seen_ids import SeenIds
from serving.segments import mark_bytes
from serving.service import Service
from serving.settings import Settings, read_settings, split_keys
from serving.spool import Spool, check_excluded
from serving.spool_room import Limits

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
    add_api(app, service)
    http = _create_http(settings)
    app.add_middleware(CountRequests, http=http, routes=app.routes)
    log.info("ready", extra={"model": manifest.name, "version": manifest.version})
    fast_path = FastPath(service, RouteMetrics(http, "/predict"))
    app.state.fast_path = fast_path if settings.fast_path else None
    app.state.loop_lag = LoopLag(settings.metrics_dir)
    app.state.catch_up = service.catch_up
    app.state.gatekeeper = Gatekeeper(settings, service.rejections, service.load)
    return app


def create_service(settings: Settings) -> Service:
    """Build the service on the master's bundle; without a master, load it."""
    pinned = master.current()
    bundle = pinned.bundle if pinned else load_bundle(settings.bundle)
    manifest = bundle.manifest
    check_excluded(manifest, settings.spool_exclude)
    metrics = ModelMetrics(manifest, settings.metrics_dir)
    inputs = Inputs(manifest, metrics.ignore)
    row = inputs.decode_row(json.dumps(example_row(manifest)).encode())
    # The first call of an estimator is the slowest; no client should wait for it.
    example = predict_example(manifest, bundle.model, row)
    keys = split_keys(settings.prediction_keys)
    signer = Signer(keys, manifest.name, manifest.version, mark_bytes(manifest))
    truths = create_truths(manifest, settings.metrics_dir)
    max_age = settings.feedback_max_days * _DAY
    spool = _create_spool(settings, manifest, metrics)
    return Service(
        manifest=manifest,
        inputs=inputs,
        metrics=metrics,
        predictor=Predictor(
            bundle.model,
            Encoder(manifest.features),
            create_outcomes(manifest, signer),
            metrics,
            spool,
        ),
        answers=Answers(manifest),
        feedback=Feedback(truths, signer, max_age, spool, seen=SeenIds(settings.metrics_dir)),
        rejections=Rejections(settings.metrics_dir),
        load=Load(settings.overload_seconds),
        spool=spool,
        max_body_bytes=settings.max_body_bytes,
        example=example,
    )


def _create_http(settings: Settings) -> HttpSlots:
    pinned = master.current()
    count_lost = (pinned.counters.uncounted,) if pinned else ()
    http = HttpSlots(settings.metrics_dir, COUNTED_ROUTES, *count_lost)
    logs.on_drop(http.count_dropped_lines)
    return http


def _create_spool(settings: Settings, manifest: Manifest, metrics: ModelMetrics) -> Spool | None:
    if not settings.spool_dirs:
        return None
    limits = Limits(
        max_bytes=settings.spool_max_bytes,
        segment_bytes=settings.spool_segment_bytes,
        segment_seconds=settings.spool_segment_seconds,
    )
    return Spool(settings.spool_dirs, manifest, limits, metrics.spool, settings.spool_exclude)
