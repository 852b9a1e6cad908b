"""The application of a worker without a server."""

from pathlib import Path

import pytest
from fastapi import FastAPI
from pydantic import SecretStr
from uvicorn.config import Config

from serving.app import COUNTED_ROUTES, create_service
from serving.http.gatekeeper import Gatekeeper
from serving.http.predict_protocol import FastPath
from serving.http.router import add_api
from serving.metrics.http import HttpSlots, RouteMetrics
from serving.settings import Settings


@pytest.fixture(name="app")
def _app(example_bundle: Path, tmp_path: Path) -> FastAPI:
    """Return the application without its middleware, which a process can have only once."""
    settings = Settings(
        bundle=example_bundle,
        metrics_dir=tmp_path,
        prediction_keys=SecretStr("k" * 32),
        max_body_bytes=5000,
        overload_seconds=60,  # of a machine that is busy with other tests
    )
    service = create_service(settings)
    app = FastAPI()
    add_api(app, service)
    http = HttpSlots(tmp_path, COUNTED_ROUTES)
    app.state.fast_path = FastPath(service, RouteMetrics(http, "/predict"))
    app.state.gatekeeper = Gatekeeper(settings, service.rejections, service.load)
    return app


@pytest.fixture(name="config")
def _config(app: FastAPI) -> Config:
    config = Config(app, log_config=None)
    config.load()
    return config
