"""The cost of spooling every prediction, in particular while Fiddler is down.

The services run on one core and are measured in turn. The load generator, which polls without
sleeping, has the other core to itself. The publisher runs on the services' core, which is the worst
case, because its retries delay predictions; on the other core they would delay the load generator.
It is suspended while a service without a spool is measured.

Latencies are those of the quietest quarter of short windows. A shared machine takes its cores away
for milliseconds, many times per second. The p99 over all requests would measure mostly that: it is
ten times what a spool could add, and differs between runs.

The goal applies to the rate that is the maximum of jeremyjordan/ml-monitoring. At higher rates the
core is soon saturated, because a request alone costs several times as much as one in a full batch.
Each added microsecond then delays every queued request. Those rates are reported without a goal.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median

import numpy as np

from bench import ours
from bench.bench import VAR, Bench
from bench.machine import (
    BenchError,
    children,
    pinned,
    processor_seconds,
    require_wrk,
)
from bench.publisher import Publisher, publishing, require_client, sum_of, unreachable_fiddler
from bench.report import Goal, Section, at_most, number_text, spread
from bench.servers import Server
from bench.steady import steady
from bench.wrk import Request, wrk
from bundle.arrays import Floats

_TURN_SECONDS = 0.2
# Requests per p99: few enough that most windows end before the machine takes the core away.
_WINDOW = 200
# Requests per second of a busy service, and of one that uses about half of its core.
_BUSY = 1_000.0
_HALF_BUSY = 5_000.0


@dataclass(frozen=True)
class Turns:
    """Latencies (n,) in seconds of each turn at a rate, in the order of the responses.

    `off` is without a spool, `on` with one, and `again` without one in a second process. `busy` is
    the share of its core that the process of `off` used in each turn.
    """

    rate: float
    off: list[Floats] = field(default_factory=list)
    on: list[Floats] = field(default_factory=list)
    again: list[Floats] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """The p99 with a spool divided by the p99 without one."""
        return calm_quantile(self.on, 0.99) / calm_quantile([*self.off, *self.again], 0.99)

    @property
    def noise(self) -> float:
        """The same ratio of two processes without a spool; 1 if measured exactly."""
        return calm_quantile(self.again, 0.99) / calm_quantile(self.off, 0.99)


def calm_quantile(turns: Sequence[Floats], share: float) -> float:
    """Return the lower quartile over all windows of a quantile of latencies, in seconds."""
    windows = [
        each[start : start + _WINDOW]
        for each in turns
        for start in range(0, max(1, len(each) - _WINDOW + 1), _WINDOW)
    ]
    return float(np.quantile([np.quantile(each, share) for each in windows], 0.25))


@dataclass(frozen=True)
class Rates:
    """Requests per second of one round, without a spool and with one."""

    off: float
    on: float

    @property
    def ratio(self) -> float:
        """The throughput with a spool divided by the throughput without one."""
        return self.on / self.off

    @property
    def cost(self) -> float:
        """The time to spool a prediction, in µs."""
        return (1 / self.on - 1 / self.off) * 1e6


@dataclass(frozen=True)
class _Down:
    """Measurements with Fiddler down."""

    throughput: Sequence[Rates]
    turns: Sequence[Turns]
    spooled: int
    failures: int


def measure(bench: Bench) -> Section:
    """Measure the cost of spooling."""
    require_wrk()
    require_client()
    VAR.mkdir(parents=True, exist_ok=True)
    # On disk, like a real spool; the benchmark's other files are in memory.
    with tempfile.TemporaryDirectory(prefix="spool-", dir=VAR) as directory:
        down = _measure_down(bench, Path(directory, "down"))
    return Section(
        f"Spooling for Fiddler, median of {bench.rounds} rounds",
        [
            ["", "measured", "lowest – highest"],
            *_throughput_rows(down.throughput),
            *_latency_rows(down),
        ],
        _goals(down),
        _notes(down),
    )


def _measure_down(bench: Bench, spool: Path) -> _Down:
    off, on = ours.monitored(bench), ours.spooling(bench, spool)
    again = replace(ours.monitored(bench), name=f"{off.name}, again")
    with bench.running(off) as started, bench.running(again), bench.running(on):
        (worker,) = children(started.pid)
        with pinned({bench.cores.loader}):
            throughput = _throughput(bench, off, on)
        with unreachable_fiddler() as url, publishing(bench, spool, url) as publisher:
            publisher.until(lambda: publisher.total("publisher_failures_total"), "a failure")
            maximum = median(each.off for each in throughput)
            with pinned({bench.cores.loader}):
                servers = off, on, again
                turns = [
                    _turns(bench, servers, worker, publisher, rate)
                    for rate in (_BUSY, _HALF_BUSY, maximum / 2)
                ]
            failures = _check_unreachable(publisher)
        return _Down(throughput, turns, _check_spooled(on), failures)


def _turns(
    bench: Bench,
    servers: tuple[Server, Server, Server],
    worker: int,
    publisher: "Publisher",
    rate: float,
) -> Turns:
    """Measure in short turns, so that other load on the machine affects all servers alike.

    `worker` is the pid of the first server's worker.
    """
    off, on, again = (bench.request(server) for server in servers)
    turns = Turns(rate)
    publisher.suspend()
    for _ in range(round(bench.rounds * bench.seconds / _TURN_SECONDS)):
        start, processor = time.perf_counter(), processor_seconds(worker)
        turns.off.append(_turn(off, rate))
        seconds = time.perf_counter() - start
        turns.busy.append((processor_seconds(worker) - processor) / seconds)
        turns.on.append(_turn_with_publisher(publisher, on, rate))
        turns.again.append(_turn(again, rate))
        turns.on.append(_turn_with_publisher(publisher, on, rate))
    return turns


def _turn_with_publisher(publisher: Publisher, request: Request, rate: float) -> Floats:
    with publisher.resumed():
        return _turn(request, rate)


def _turn(request: Request, rate: float) -> Floats:
    return steady(request, rate, max(_TURN_SECONDS, 2 * _WINDOW / rate))


def _throughput(bench: Bench, off: Server, on: Server) -> list[Rates]:
    """Return the rates of both, without a publisher, to measure the cost of spooling alone."""
    requests = bench.request(off), bench.request(on)
    for each in requests:
        wrk(each, 1)
    return [
        Rates(*(wrk(each, bench.seconds).rate for each in requests)) for _ in range(bench.rounds)
    ]


def _check_unreachable(publisher: "Publisher") -> int:
    """Return the number of failed requests to Fiddler. Raises BenchError if any succeeded."""
    with publisher.resumed():
        if publisher.total("publisher_events_total"):
            raise BenchError("events were published although Fiddler is down")
        return int(publisher.total("publisher_failures_total"))


def _check_spooled(server: Server) -> int:
    """Return the number of spooled predictions. Raises BenchError if any was not spooled."""
    page = ours.metrics_url(server)
    spooled = int(sum_of(page, "model_spool_events_total", outcome="written"))
    made = int(sum_of(page, "model_prediction_value_count"))
    if spooled < made:
        raise BenchError(f"only {spooled} of {made} predictions were spooled")
    return spooled


def _goals(down: _Down) -> list[Goal]:
    """Return the goals; the p99 has one at the lowest rate only."""
    return [
        _tail(down.turns[0]),
        at_most(
            "export",
            "spooling a prediction, by throughput",
            median(each.cost for each in down.throughput),
            10,
            " µs",
        ),
    ]


def _tail(turns: Turns) -> Goal:
    what = f"p99 at {number_text(turns.rate)} requests/s, Fiddler down ÷ spool off"
    goal = at_most("export", what, turns.ratio, 1.1)
    return replace(goal, figure=f"{goal.figure} (off ÷ off: {number_text(turns.noise)})")


def _notes(down: _Down) -> list[str]:
    spooled = f"All {down.spooled:,} predictions were spooled"
    failures = f"{down.failures} requests to Fiddler failed"
    method = f"Latencies are those of the quietest quarter of windows of {_WINDOW} requests"
    return [f"{spooled}; {failures}. {method}."]


def _throughput_rows(rounds: Sequence[Rates]) -> Iterator[list[str]]:
    yield ["requests/s, spool off", *spread([each.off for each in rounds])]
    yield ["requests/s, spool on", *spread([each.on for each in rounds])]
    yield ["on ÷ off", *spread([each.ratio for each in rounds])]
    yield ["µs to spool a prediction", *spread([each.cost for each in rounds])]


def _latency_rows(down: _Down) -> Iterator[list[str]]:
    for turns in down.turns:
        kinds = {"spool off": [*turns.off, *turns.again], "Fiddler down": turns.on}
        busy = f"{np.mean(turns.busy):.0%} of a core, spool off"
        yield ["requests/s during the latencies below", number_text(turns.rate), busy]
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            for kind, latencies in kinds.items():
                overall = float(np.quantile(np.concatenate(latencies), share))
                yield [
                    f"{name} in ms, {kind}",
                    number_text(calm_quantile(latencies, share) * 1e3),
                    f"of all requests: {number_text(overall * 1e3)}",
                ]
        yield ["p99, Fiddler down ÷ spool off", number_text(turns.ratio), ""]
        yield ["p99, spool off ÷ spool off in another process", number_text(turns.noise), ""]
