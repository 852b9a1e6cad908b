"""Latencies: at half of a server's maximum throughput, and of single requests when idle."""

from collections.abc import Sequence
from statistics import median

from bench import ours
from bench.bench import Bench
from bench.machine import pinned, require_wrk
from bench.peers import catalogue
from bench.report import Goal, Section, at_most, number_text
from bench.steady import quantile, steady
from bench.wrk import CONNECTIONS, wrk
from bundle.arrays import Floats

_SINGLE_RATE = 100.0


def measure(bench: Bench) -> Section:
    """Measure latencies under load and when idle."""
    require_wrk()
    servers = ours.monitored(bench), catalogue.jeremyjordan(bench), ours.ceiling(bench)
    own, other, constant = map(bench.request, servers)
    with (
        bench.running(servers[0]),
        bench.running(servers[1]),
        bench.running(servers[2]),
        pinned({bench.cores.loader}),
    ):
        maximum = [[wrk(each, bench.seconds) for _ in range(bench.rounds)] for each in (own, other)]
        half = [median(each.rate for each in rounds) / 2 for rounds in maximum]
        other_p50 = median(each.p50 for each in maximum[1])
        rounds = [
            (
                steady(own, half[0], bench.seconds),
                steady(other, half[1], bench.seconds),
                steady(constant, half[0], bench.seconds),
                steady(own, _SINGLE_RATE, bench.seconds, connections=1),
            )
            for _ in range(bench.rounds)
        ]
    own_half, other_half, ceiling, single = zip(*rounds, strict=True)
    return Section(
        "Latency in ms at a constant request rate",
        [
            ["", "requests/s", "p50", "p99"],
            *(
                [name, number_text(rate), _milliseconds(of, 0.5), _milliseconds(of, 0.99)]
                for name, rate, of in (
                    ("this service at half its maximum", half[0], own_half),
                    (f"{catalogue.JEREMYJORDAN} at half its maximum", half[1], other_half),
                    ("raw ASGI constant at the rate of this service", half[0], ceiling),
                    ("this service, single requests", _SINGLE_RATE, single),
                )
            ),
        ],
        [
            Goal(
                "latency",
                f"p99 at half load < p50 of {catalogue.JEREMYJORDAN} at {CONNECTIONS} connections",
                f"{_milliseconds(own_half, 0.99)} ms < {number_text(other_p50 * 1e3)} ms",
                quantile(own_half, 0.99) < other_p50,
            ),
            at_most("latency", "p50 of single requests", quantile(single, 0.5) * 1e3, 1, " ms"),
        ],
    )


def _milliseconds(latencies: Sequence[Floats], share: float) -> str:
    return number_text(quantile(latencies, share) * 1e3)
