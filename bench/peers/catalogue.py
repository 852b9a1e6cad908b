"""How each peer is installed, started and queried."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import PYTHONPATH
from bench.bench import VAR, Bench
from bench.machine import BenchError
from bench.servers import Row, Server
from bundle.manifest import ESTIMATOR_FILE

HERE = Path(__file__).parent
JEREMYJORDAN = "jeremyjordan/ml-monitoring"
JEREMYJORDAN_WITH_EXTRAS = f"{JEREMYJORDAN} with uvloop and httptools"
EXCLUDED = (
    "Left out: Ray Serve starts a cluster of a dozen processes for one model and reached a tenth of"
    " the throughput of the slowest server here."
)


@dataclass(frozen=True)
class Peer:
    """A peer: what pip installs, and a function from its Python and a bench to its servers."""

    name: str
    requirements: tuple[str, ...]
    servers: Callable[[Path, Bench], Iterator[Server]]


def jeremyjordan(bench: Bench) -> Server:
    """Return jeremyjordan/ml-monitoring as published: uvicorn without extras, access log on."""
    return _jeremyjordan(JEREMYJORDAN, bench, "--loop", "asyncio", "--http", "h11")


def jeremyjordan_with_extras(bench: Bench) -> Server:
    """Return it with uvicorn's faster event loop and parser, access log off."""
    return _jeremyjordan(
        JEREMYJORDAN_WITH_EXTRAS,
        bench,
        "--loop",
        "uvloop",
        "--http",
        "httptools",
        "--no-access-log",
    )


def _jeremyjordan(name: str, bench: Bench, *options: str) -> Server:
    port = bench.ports.reserve()
    application = ["--factory", "bench.peers.jeremyjordan:create_app"]
    return Server(
        name,
        [sys.executable, "-m", "uvicorn", "--port", str(port), *options, *application],
        port,
        environment=_model(bench) | {"PYTHONPATH": PYTHONPATH},
    )


def install(peer: Peer) -> Path:
    """Return the Python of a peer's environment; install it unless it exists. Raises BenchError."""
    home = VAR / peer.name
    done = home / "installed.txt"
    wanted = "\n".join((*peer.requirements, f"scikit-learn=={version('scikit-learn')}"))
    if not done.is_file() or done.read_text() != wanted:
        print(f"bench: installing {peer.name} into {home}", file=sys.stderr)
        shutil.rmtree(home, ignore_errors=True)
        _run(sys.executable, "-m", "venv", str(home))
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        _run(str(home / "bin" / "python"), *pip, *wanted.splitlines())
        done.write_text(wanted)
    return home / "bin" / "python"


def _run(*argv: str) -> None:
    completed = subprocess.run(argv, capture_output=True, text=True, check=False)
    if completed.returncode:
        last = completed.stderr.strip().splitlines()[-1:] or ["no error output"]
        raise BenchError(f"the installation failed: {last[0]}")


def _mlserver(python: Path, bench: Bench) -> Iterator[Server]:
    for name, batch in (("MLServer", {}), ("MLServer, batching", _MLSERVER_BATCHING)):
        ports = {f"{kind}_port": bench.ports.reserve() for kind in ("http", "grpc", "metrics")}
        home = bench.directory / name.replace(", ", "-")
        home.mkdir()
        settings = {"host": "127.0.0.1", "parallel_workers": 0, "debug": False, **ports}
        (home / "settings.json").write_text(json.dumps(settings))
        model = {
            "name": "example",
            "implementation": "mlserver_sklearn.SKLearnModel",
            "parameters": {"uri": str(bench.bundle / ESTIMATOR_FILE)},
            **batch,
        }
        (home / "model-settings.json").write_text(json.dumps(model))
        yield Server(
            name,
            [str(python.with_name("mlserver")), "start", str(home)],
            ports["http_port"],
            "/v2/models/example/infer",
            _mlserver_body,
            lambda answer: float(answer["outputs"][0]["data"][0]),
            _model(bench),
            polls_when_idle=True,
        )


_MLSERVER_BATCHING = {"max_batch_size": 16, "max_batch_time": 0.005}


def _mlserver_body(row: Row) -> Any:  # noqa: ANN401 any JSON
    shape = {"shape": [1, len(row)], "datatype": "FP64"}
    return {"inputs": [{"name": "rows", **shape, "data": [*row.values()]}]}


def _bentoml(python: Path, bench: Bench) -> Iterator[Server]:
    for name, service in (("BentoML", "Single"), ("BentoML, batching", "Batching")):
        port = bench.ports.reserve()
        serve = ["serve", f"run_bentoml:{service}", "--host", "127.0.0.1", "--port", str(port)]
        home = {"BENTOML_HOME": str(VAR / "bentoml" / "home"), "BENTOML_DO_NOT_TRACK": "True"}
        yield Server(
            name,
            [str(python.with_name("bentoml")), *serve, "--working-dir", str(HERE)],
            port,
            body=lambda row: {"rows": [[*row.values()]]},
            prediction=lambda answer: float(answer[0]),
            environment=_model(bench) | home,
            polls_when_idle=True,
        )


def _litserve(python: Path, bench: Bench) -> Iterator[Server]:
    for name, rows in (("LitServe", 1), ("LitServe, batching", 16)):
        port = bench.ports.reserve()
        yield Server(
            name,
            [str(python), str(HERE / "run_litserve.py"), str(port), str(rows)],
            port,
            body=lambda row: {"row": [*row.values()]},
            environment=_model(bench),
            polls_when_idle=True,
        )


PEERS = (
    Peer("mlserver", ("mlserver==1.7.1", "mlserver-sklearn==1.7.1"), _mlserver),
    Peer("bentoml", ("bentoml==1.4.39",), _bentoml),
    Peer("litserve", ("litserve==0.2.19",), _litserve),
)


def _model(bench: Bench) -> dict[str, str]:
    """Return the environment of every peer; more threads would only compete for the one core."""
    return {"BENCH_MODEL": str(bench.bundle / ESTIMATOR_FILE), "OMP_NUM_THREADS": "1"}
