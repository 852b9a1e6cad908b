"""Models of other kinds than the example: beside a plain FastAPI route with the same estimator.

Also the cost of monitoring a classifier, a wide row alone, and the building of a large bundle.
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from statistics import median

from bench import PYTHONPATH, models, ours
from bench.bench import Bench
from bench.groups.overhead import cost
from bench.groups.serving import ratio
from bench.machine import BenchError, pinned, require_wrk
from bench.models import Model
from bench.report import Goal, Section, at_least, at_most, number_text, spread
from bench.servers import Server
from bench.steady import quantile, steady
from bench.wrk import Throughput, wrk
from bundle.manifest import ESTIMATOR_FILE
from tools import ROOT

_TURN_SECONDS = 1
_SINGLE_RATE = 100.0
_BUILT = (100_000, 40, 10)
_MAX_SECONDS, _MAX_FRAMES, _WIDE_MS = 60, 3, 2

Rounds = Mapping[str, Sequence[Throughput]]


def measure(bench: Bench) -> Section:
    """Measure all of it; what cannot be measured is a missed goal, and the rest is measured."""
    require_wrk()
    pipeline = models.pipeline(bench)
    cases = [(pipeline, 20), (models.forest(bench), 20), (models.not_compiled(bench, pipeline), 8)]
    rows = [["", "requests/s", "lowest – highest", "plain route, requests/s", "ratio"]]
    parts: list[Callable[[], list[Goal]]] = [
        *(partial(_compared, bench, model, least, rows) for model, least in cases),
        partial(_monitoring, bench, pipeline),
        partial(_alone, bench),
        _building,
    ]
    goals = [goal for part in parts for goal in _measured(part)]
    return Section("Other models, one row per request, one core", rows, goals)


def _measured(part: Callable[[], list[Goal]]) -> list[Goal]:
    try:
        return part()
    except BenchError as error:
        return [Goal("models", "measured", str(error), met=False)]


def _compared(bench: Bench, model: Model, least: float, rows: list[list[str]]) -> list[Goal]:
    """Compare a model with a plain route; add a row to the table."""
    name = model.bundle.name
    print(f"bench: {name}", file=sys.stderr)
    rounds = _beside_a_plain_route(bench, model)
    own, plain = ([each.rate for each in found] for found in rounds.values())
    faster = ratio(rounds, *rounds)
    rows.append([name, *spread(own), number_text(median(plain)), number_text(faster)])
    return [at_least("models", f"{name}: ratio to a plain route", faster, least, "×")]


def _plain_route(bench: Bench, model: Model) -> Server:
    port = bench.ports.reserve()
    options = ["--port", str(port), "--no-access-log", "--factory"]
    return Server(
        f"plain FastAPI route, {model.bundle.name}",
        [sys.executable, "-m", "uvicorn", *options, "bench.peers.plain_route:create_app"],
        port,
        environment={
            "BENCH_MODEL": str(model.bundle / ESTIMATOR_FILE),
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": PYTHONPATH,
        },
    )


def _beside_a_plain_route(bench: Bench, model: Model) -> Rounds:
    servers = [ours.of_bundle(bench, model.bundle), _plain_route(bench, model)]
    rounds: dict[str, list[Throughput]] = {each.name: [] for each in servers}
    with ExitStack() as stack, pinned({bench.cores.loader}):
        for each in servers:
            stack.enter_context(bench.running(each, row=model.rows[0]))
        answers = {each.predict(row) for row in model.rows[:1] for each in servers}
        if len(answers) > 1:
            raise BenchError(f"{model.bundle.name}: the servers answer {sorted(answers)}")
        for each in servers:
            wrk(each.request(model.rows), 1)
        for _ in range(bench.rounds):
            for each in servers:
                rounds[each.name].append(wrk(each.request(model.rows), bench.seconds))
    return rounds


def _monitoring(bench: Bench, model: Model) -> list[Goal]:
    """Return the share of the throughput that monitoring a classifier costs (see overhead.py)."""
    on, off = ours.of_bundle(bench, model.bundle), ours.unmonitored_of(bench, model.bundle)
    servers = (
        on,
        off,
        replace(ours.unmonitored_of(bench, model.bundle), name=f"{off.name}, second process"),
        replace(ours.of_bundle(bench, model.bundle), name=f"{on.name}, second process"),
    )
    with ExitStack() as stack, pinned({bench.cores.loader}):
        for each in servers:
            stack.enter_context(bench.running(each, row=model.rows[0]))
            wrk(each.request(model.rows), _TURN_SECONDS)
        turns = [
            [wrk(each.request(model.rows), _TURN_SECONDS).rate for each in servers]
            for _ in range(bench.rounds * bench.seconds)
        ]
    what = "loss of throughput by monitoring a classifier"
    return [at_most("models", what, 100 * cost(turns), 15, " %")]


def _alone(bench: Bench) -> list[Goal]:
    """Return the median latency of single requests of a wide model."""
    model = models.wide(bench)
    server = ours.of_bundle(bench, model.bundle)
    with bench.running(server, row=model.rows[0]), pinned({bench.cores.loader}):
        request = server.request(model.rows)
        steady(request, _SINGLE_RATE, 1, connections=1)
        rounds = [
            steady(request, _SINGLE_RATE, bench.seconds, connections=1) for _ in range(bench.rounds)
        ]
    what = f"{model.bundle.name}: p50 of single requests"
    return [at_most("models", what, quantile(rounds, 0.5) * 1e3, _WIDE_MS, " ms")]


def _building() -> list[Goal]:
    """Return the time and the memory that a large bundle takes, without cross-validation."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.building", *map(str, _BUILT)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": PYTHONPATH, "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    if done.returncode:
        raise BenchError(f"building failed: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    what = f"a bundle of {_BUILT[0]:,} × {_BUILT[1] + _BUILT[2]} rows"
    frames = found["memory"] / found["frame"]
    return [
        at_most("models", what, found["seconds"], _MAX_SECONDS, " s"),
        at_most("models", f"{what}: memory beside the frame", frames, _MAX_FRAMES, "× the frame"),
    ]
