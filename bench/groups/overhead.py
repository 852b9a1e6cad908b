"""What monitoring takes of the throughput: the service with and without it, in turn.

Two processes with the same code differ by some percent, by where their memory happens to lie. So
there are two of each, and the turns are short, that all have their share of what else the machine
does.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from statistics import fmean, median

from bench import ours
from bench.bench import Bench
from bench.machine import pinned, require_wrk
from bench.report import Section, at_most, number_text
from bench.servers import Server
from bench.wrk import wrk

_TURN_SECONDS = 1


def measure(bench: Bench) -> Section:
    """Measure both."""
    require_wrk()
    on, off = ours.monitored(bench), ours.unmonitored(bench)
    servers = on, off, _once_more(ours.unmonitored(bench)), _once_more(ours.monitored(bench))
    with ExitStack() as stack, pinned({bench.cores.loader}):
        for each in servers:
            stack.enter_context(bench.running(each))
            wrk(bench.request(each), _TURN_SECONDS)
        turns = [
            [wrk(bench.request(each), _TURN_SECONDS).rate for each in servers]
            for _ in range(bench.rounds * bench.seconds)
        ]
    return Section(
        f"Throughput with and without monitoring, {len(turns)} turns of {_TURN_SECONDS} s",
        [
            ["", "requests/s", "and of another process"],
            ["monitoring on", *_rates(turns, 0, 3)],
            ["monitoring off", *_rates(turns, 1, 2)],
        ],
        [at_most("monitoring", "throughput that it costs", 100 * cost(turns), 15, " %")],
    )


def cost(turns: Sequence[Sequence[float]]) -> float:
    """Return what share of the throughput is lost: median over turns of rates on, off, off, on."""
    return median(1 - fmean((on, on_2)) / fmean((off, off_2)) for on, off, off_2, on_2 in turns)


def _once_more(server: Server) -> Server:
    return replace(server, name=f"{server.name}, once more")


def _rates(turns: Sequence[Sequence[float]], *servers: int) -> list[str]:
    return [number_text(median(turn[server] for turn in turns)) for server in servers]
