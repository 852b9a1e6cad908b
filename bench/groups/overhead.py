"""The share of the throughput that monitoring costs: the service with and without it, in turn.

Two processes with the same code differ by some percent, because of their memory layout. So there
are two of each. The turns are short, so that other load on the machine affects all of them alike.
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
    """Measure the throughput with and without monitoring."""
    require_wrk()
    on, off = ours.monitored(bench), ours.unmonitored(bench)
    servers = (
        on,
        off,
        _second_process(ours.unmonitored(bench)),
        _second_process(ours.monitored(bench)),
    )
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
            ["", "requests/s", "second process"],
            ["monitoring on", *_rates(turns, 0, 3)],
            ["monitoring off", *_rates(turns, 1, 2)],
        ],
        [at_most("monitoring", "loss of throughput", 100 * cost(turns), 15, " %")],
    )


def cost(turns: Sequence[Sequence[float]]) -> float:
    """Return the lost share of the throughput: median over turns of rates on, off, off, on."""
    return median(1 - fmean((on, on_2)) / fmean((off, off_2)) for on, off, off_2, on_2 in turns)


def _second_process(server: Server) -> Server:
    return replace(server, name=f"{server.name}, second process")


def _rates(turns: Sequence[Sequence[float]], *servers: int) -> list[str]:
    return [number_text(median(turn[server] for turn in turns)) for server in servers]
