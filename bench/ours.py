"""The service under measurement, in its variants."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import SERVICE
from bench.bench import Bench
from bench.servers import Server
from tools import ROOT
from tools.stack.ports import free_port

MONITORED = "this service, fully monitored"
PLAIN = "this service, estimator not compiled"
UNMONITORED = "this service, monitoring off"
SPOOLING = "this service, every prediction spooled"
CEILING = "raw ASGI constant, same worker"


def monitored(bench: Bench, workers: int = 1) -> Server:
    """Return the service as it is started everywhere."""
    return _entrypoint(MONITORED, bench, bench.bundle, workers)


def plain(bench: Bench) -> Server:
    """Return the service with an estimator that it cannot compile."""
    return _entrypoint(PLAIN, bench, bench.plain_bundle)


def of_bundle(bench: Bench, bundle: Path, workers: int = 1) -> Server:
    """Return the service with another model."""
    name = f"this service, {bundle.name}"
    return _entrypoint(name, bench, bundle, workers)


def spooling(bench: Bench, spool: Path) -> Server:
    """Return the service as it is started where there is a Fiddler."""
    server = _entrypoint(SPOOLING, bench, bench.bundle)
    return replace(server, environment={**server.environment, "MODEL_SPOOL_DIR": str(spool)})


def unmonitored(bench: Bench) -> Server:
    """Return the service without its metrics."""
    return _gunicorn(UNMONITORED, bench, "bench.apps.unmonitored:create_app()")


def ceiling(bench: Bench) -> Server:
    """Return an application that does nothing, in the same server."""
    constant = "bench.apps.constant"
    return _gunicorn(CEILING, bench, "--worker-class", f"{constant}.Worker", f"{constant}:app")


def metrics_url(server: Server) -> str:
    """Return where the service tells its metrics."""
    return f"http://127.0.0.1:{server.environment['MODEL_METRICS_PORT']}/metrics"


def metrics_directory(server: Server) -> Path:
    """Return where its workers' metric files lie."""
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


def _first_number(answer: Any) -> float:  # noqa: ANN401 any JSON
    """Return the prediction, whatever the target is called."""
    return float(next(iter(answer.values())))


def _gunicorn(name: str, bench: Bench, *arguments: str) -> Server:
    environment = _environment(bench, bench.bundle, 1)
    return Server(
        name,
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", *arguments],
        int(environment["MODEL_PORT"]),
        environment=environment
        | {"PYTHONPATH": f"{ROOT}:{SERVICE}", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        cwd=SERVICE,
    )


def _environment(bench: Bench, bundle: Path, workers: int) -> dict[str, str]:
    return {
        "MODEL_BUNDLE": str(bundle),
        "MODEL_PORT": str(free_port()),
        "MODEL_METRICS_PORT": str(free_port()),
        "MODEL_WORKERS": str(workers),
        "MODEL_PREDICTION_KEYS": "only-for-the-benchmark-" + "0" * 20,
        "PROMETHEUS_MULTIPROC_DIR": tempfile.mkdtemp(prefix="metrics-", dir=bench.directory),
    }
