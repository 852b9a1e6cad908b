"""The variants of this service that are measured."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import PYTHONPATH, SERVICE
from bench.bench import Bench
from bench.servers import Server

MONITORED = "this service, fully monitored"
ROUTED = "this service, through FastAPI's route"
PLAIN = "this service, estimator not compiled"
UNMONITORED = "this service, monitoring off"
SPOOLING = "this service, every prediction spooled"
CEILING = "raw ASGI constant, same worker"


def monitored(bench: Bench, workers: int = 1) -> Server:
    """Return the service with its default settings."""
    return _entrypoint(MONITORED, bench, bench.bundle, workers)


def routed(bench: Bench) -> Server:
    """Return the service with its fast path closed, so that FastAPI handles each prediction."""
    return _with(_entrypoint(ROUTED, bench, bench.bundle), MODEL_FAST_PATH="false")


def plain(bench: Bench) -> Server:
    """Return the service with an estimator that is not compiled."""
    return _entrypoint(PLAIN, bench, bench.plain_bundle)


def of_bundle(bench: Bench, bundle: Path, workers: int = 1) -> Server:
    """Return the service with another bundle."""
    name = f"this service, {bundle.name}"
    return _entrypoint(name, bench, bundle, workers)


def spooling(bench: Bench, spool: Path) -> Server:
    """Return the service with a spool for Fiddler."""
    return _with(_entrypoint(SPOOLING, bench, bench.bundle), MODEL_SPOOL_DIR=str(spool))


def unmonitored(bench: Bench) -> Server:
    """Return the service without its metrics."""
    return _gunicorn(UNMONITORED, bench, "bench.apps.unmonitored:create_app()")


def unmonitored_of(bench: Bench, bundle: Path) -> Server:
    """Return the service without its metrics, with another bundle."""
    name = f"{UNMONITORED}, {bundle.name}"
    return _with(replace(unmonitored(bench), name=name), MODEL_BUNDLE=str(bundle))


def ceiling(bench: Bench) -> Server:
    """Return an application that answers a constant, in the same server and worker."""
    constant = "bench.apps.constant"
    return _gunicorn(CEILING, bench, "--worker-class", f"{constant}.Worker", f"{constant}:app")


def metrics_url(server: Server) -> str:
    """Return the URL of the service's metrics."""
    return f"http://127.0.0.1:{server.environment['MODEL_METRICS_PORT']}/metrics"


def metrics_directory(server: Server) -> Path:
    """Return the directory of the workers' metric files."""
    return Path(server.environment["PROMETHEUS_MULTIPROC_DIR"])


def _entrypoint(name: str, bench: Bench, bundle: Path, workers: int = 1) -> Server:
    environment = _environment(bench, bundle, workers)
    return Server(
        name,
        [sys.executable, "entrypoint.py"],
        int(environment["MODEL_PORT"]),
        prediction=_first_number,
        environment=environment,
        cwd=SERVICE,
    )


def _with(server: Server, **settings: str) -> Server:
    return replace(server, environment={**server.environment, **settings})


def _first_number(answer: Any) -> float:  # noqa: ANN401 any JSON
    """Return the prediction, whatever the target's name."""
    return float(next(iter(answer.values())))


def _gunicorn(name: str, bench: Bench, *arguments: str) -> Server:
    environment = _environment(bench, bench.bundle, 1)
    return Server(
        name,
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", *arguments],
        int(environment["MODEL_PORT"]),
        environment=environment
        | {"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=SERVICE,
    )


def _environment(bench: Bench, bundle: Path, workers: int) -> dict[str, str]:
    return {
        "MODEL_BUNDLE": str(bundle),
        "MODEL_PORT": str(bench.ports.reserve()),
        "MODEL_METRICS_PORT": str(bench.ports.reserve()),
        "MODEL_WORKERS": str(workers),
        "MODEL_PREDICTION_KEYS": "only-for-the-benchmark-" + "0" * 20,
        "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(prefix="metrics-", dir=bench.directory),
    }
