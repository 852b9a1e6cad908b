"""What it costs the service to spool every prediction, most of all while Fiddler is down.

Where what runs, on two cores. The services share one, and are asked in turn; the loader, which
never sleeps, has the other one to itself. The publisher shares the core of the services: the worst
case, for its tries hold up predictions. (Beside the loader they would hold up the loader, which
would blame the service.) It is stopped whenever a service without a spool is asked, so that its
work cannot slow down what it is compared with.

Latencies are those of the calm quarter of short windows. A shared machine takes its cores away for
milliseconds, many times a second; the p99 over all requests measures that, ten times what a spool
could add, and no two runs agree on it.

The goal is held at as many requests as the original can answer at all. Beyond that a core is soon
busy all the time, for requests that come alone cost several times what they cost in a full batch;
then each microsecond, whatever takes it, is waited for by all that queue. Those loads are shown.
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
from bench.publisher import Publisher, publishing, refusing, require_client, sum_of
from bench.report import Goal, Section, at_most, number_text, spread
from bench.servers import Server
from bench.steady import steady
from bench.wrk import Request, wrk
from bundle.arrays import Floats

_TURN_SECONDS = 0.2
# Requests whose p99 is taken: so few that most windows are over before the machine is next away.
_WINDOW = 200
# Requests a second of a busy service, and of one that takes about half of its core.
_BUSY = 1_000.0
_HALF_BUSY = 5_000.0


@dataclass(frozen=True)
class Turns:
    """Latencies (n,) of each turn at some rate, in the order of answers, in seconds.

    Without a spool, with it, and without it once more, in another process; and the share of its
    core that the first one had in each of its turns.
    """

    rate: float
    off: list[Floats] = field(default_factory=list)
    on: list[Floats] = field(default_factory=list)
    again: list[Floats] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times as long the p99 is with a spool."""
        return calm(self.on, 0.99) / calm([*self.off, *self.again], 0.99)

    @property
    def noise(self) -> float:
        """The same of two processes without one: 1, could it be measured exactly."""
        return calm(self.again, 0.99) / calm(self.off, 0.99)


def calm(turns: Sequence[Floats], share: float) -> float:
    """Return the quantile of latencies that a quarter of all windows stay below, in seconds."""
    windows = [
        each[start : start + _WINDOW]
        for each in turns
        for start in range(0, max(1, len(each) - _WINDOW + 1), _WINDOW)
    ]
    return float(np.quantile([np.quantile(each, share) for each in windows], 0.25))


@dataclass(frozen=True)
class Rates:
    """Requests a second of one round, without a spool and with it."""

    off: float
    on: float

    @property
    def ratio(self) -> float:
        """How much of the throughput is left with a spool."""
        return self.on / self.off

    @property
    def cost(self) -> float:
        """What spooling a prediction takes, in µs."""
        return (1 / self.on - 1 / self.off) * 1e6


@dataclass(frozen=True)
class _Down:
    """What was measured while Fiddler was down."""

    throughput: Sequence[Rates]
    turns: Sequence[Turns]
    spooled: int
    refused: int


def measure(bench: Bench) -> Section:
    """Measure what the spool may cost."""
    require_wrk()
    require_client()
    VAR.mkdir(parents=True, exist_ok=True)
    # On the disk, where a spool lies; not in memory, where the benchmark's other files do.
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
        with refusing() as url, publishing(bench, spool, url) as publisher:
            publisher.until(lambda: publisher.total("publisher_failures_total"), "a refusal")
            most = median(each.off for each in throughput)
            with pinned({bench.cores.loader}):
                servers = off, on, again
                turns = [
                    _turns(bench, servers, worker, publisher, rate)
                    for rate in (_BUSY, _HALF_BUSY, most / 2)
                ]
            refused = _check_refused(publisher)
        return _Down(throughput, turns, _check_spooled(on), refused)


def _turns(
    bench: Bench,
    servers: tuple[Server, Server, Server],
    worker: int,
    publisher: "Publisher",
    rate: float,
) -> Turns:
    """Ask in short turns, so that all have their share of what others do to the machine.

    `worker` is the pid of what answers for the first server.
    """
    off, on, again = (bench.request(server) for server in servers)
    turns = Turns(rate)
    publisher.sleep()
    for _ in range(round(bench.rounds * bench.seconds / _TURN_SECONDS)):
        start, had = time.perf_counter(), processor_seconds(worker)
        turns.off.append(_turn(off, rate))
        seconds = time.perf_counter() - start
        turns.busy.append((processor_seconds(worker) - had) / seconds)
        turns.on.append(_turn_beside(publisher, on, rate))
        turns.again.append(_turn(again, rate))
        turns.on.append(_turn_beside(publisher, on, rate))
    return turns


def _turn_beside(publisher: Publisher, request: Request, rate: float) -> Floats:
    with publisher.awake():
        return _turn(request, rate)


def _turn(request: Request, rate: float) -> Floats:
    return steady(request, rate, max(_TURN_SECONDS, 2 * _WINDOW / rate))


def _throughput(bench: Bench, off: Server, on: Server) -> list[Rates]:
    """Return the rates of both; there is no publisher yet, so it is spooling alone that costs."""
    requests = bench.request(off), bench.request(on)
    for each in requests:
        wrk(each, 1)
    return [
        Rates(*(wrk(each, bench.seconds).rate for each in requests)) for _ in range(bench.rounds)
    ]


def _check_refused(publisher: "Publisher") -> int:
    """Return how often Fiddler was not there. Raises BenchError where it was."""
    with publisher.awake():
        if publisher.total("publisher_events_total"):
            raise BenchError("events were published while Fiddler was to be down")
        return int(publisher.total("publisher_failures_total"))


def _check_spooled(server: Server) -> int:
    """Return how many predictions were spooled. Raises BenchError where any was not."""
    page = ours.metrics_url(server)
    spooled = int(sum_of(page, "model_spool_events_total", outcome="written"))
    made = int(sum_of(page, "model_prediction_value_count"))
    if spooled < made:
        raise BenchError(f"of {made} predictions {spooled} were spooled")
    return spooled


def _goals(down: _Down) -> list[Goal]:
    """Return the goals, that of the p99 at the first load."""
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
    refused = f"{down.refused} attempts to reach Fiddler were refused"
    how = f"Latencies: of the calm quarter of windows of {_WINDOW} requests"
    return [f"{spooled}; {refused}. {how}."]


def _throughput_rows(rounds: Sequence[Rates]) -> Iterator[list[str]]:
    yield ["requests/s, spool off", *spread([each.off for each in rounds])]
    yield ["requests/s, spool on", *spread([each.on for each in rounds])]
    yield ["on ÷ off", *spread([each.ratio for each in rounds])]
    yield ["µs that spooling a prediction takes", *spread([each.cost for each in rounds])]


def _latency_rows(down: _Down) -> Iterator[list[str]]:
    for turns in down.turns:
        kinds = {"spool off": [*turns.off, *turns.again], "Fiddler down": turns.on}
        busy = f"{np.mean(turns.busy):.0%} of a core, spool off"
        yield ["requests/s while latencies were measured", number_text(turns.rate), busy]
        for share, name in ((0.5, "p50"), (0.99, "p99")):
            for kind, those in kinds.items():
                every = float(np.quantile(np.concatenate(those), share))
                yield [
                    f"{name} in ms, {kind}",
                    number_text(calm(those, share) * 1e3),
                    f"of all requests: {number_text(every * 1e3)}",
                ]
        yield ["p99, Fiddler down ÷ spool off", number_text(turns.ratio), ""]
        yield ["p99, spool off ÷ spool off in another process", number_text(turns.noise), ""]
