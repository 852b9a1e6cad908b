"""How long an answer takes: at half of what a server can do, and to a lone request at rest."""

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

_LONE_RATE = 100.0


def measure(bench: Bench) -> Section:
    """Measure latencies under load and at rest."""
    require_wrk()
    servers = ours.monitored(bench), catalogue.original(bench), ours.ceiling(bench)
    own, original, constant = map(bench.request, servers)
    with (
        bench.running(servers[0]),
        bench.running(servers[1]),
        bench.running(servers[2]),
        pinned({bench.cores.loader}),
    ):
        most = [[wrk(each, bench.seconds) for _ in range(bench.rounds)] for each in (own, original)]
        half = [median(each.rate for each in answered) / 2 for answered in most]
        original_p50 = median(each.p50 for each in most[1])
        rounds = [
            (
                steady(own, half[0], bench.seconds),
                steady(original, half[1], bench.seconds),
                steady(constant, half[0], bench.seconds),
                steady(own, _LONE_RATE, bench.seconds, connections=1),
            )
            for _ in range(bench.rounds)
        ]
    mine, theirs, least, lone = zip(*rounds, strict=True)
    return Section(
        "Latency in ms, requests leaving at a constant rate",
        [
            ["", "requests/s", "p50", "p99"],
            *(
                [name, number_text(rate), _milliseconds(of, 0.5), _milliseconds(of, 0.99)]
                for name, rate, of in (
                    ("half of what this service can do", half[0], mine),
                    ("half of what the original can do", half[1], theirs),
                    ("the raw ASGI constant, as often as this service", half[0], least),
                    ("lone requests to this service", _LONE_RATE, lone),
                )
            ),
        ],
        [
            Goal(
                "latency",
                f"p99 at half the load < the original's p50 at {CONNECTIONS} connections",
                f"{_milliseconds(mine, 0.99)} ms < {number_text(original_p50 * 1e3)} ms",
                quantile(mine, 0.99) < original_p50,
            ),
            at_most("latency", "a lone request's p50", quantile(lone, 0.5) * 1e3, 1, " ms"),
        ],
    )


def _milliseconds(latencies: Sequence[Floats], share: float) -> str:
    return number_text(quantile(latencies, share) * 1e3)
