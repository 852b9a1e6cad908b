"""The duration of a start, and the memory of a worker."""

from statistics import median

from bench import ours
from bench.bench import Bench
from bench.machine import children, pinned, proportional_set_size, require_wrk
from bench.peers import catalogue
from bench.report import Section, at_most, number_text
from bench.servers import Server
from bench.wrk import wrk

_MEGABYTE = 10**6


def measure(bench: Bench) -> Section:
    """Measure both."""
    require_wrk()
    own, other = ours.monitored(bench, workers=2), catalogue.jeremyjordan(bench)
    starts = [(_start(bench, own), _start(bench, other)) for _ in range(bench.rounds)]
    compiled, plain = (_memory(bench, server) for server in (own, ours.plain(bench)))
    return Section(
        "Start and memory",
        [
            ["", "measured"],
            ["start to first prediction, 2 workers", f"{median(s for s, _ in starts):.2f} s"],
            [f"the same of {catalogue.JEREMYJORDAN}", f"{median(s for _, s in starts):.2f} s"],
            ["memory per worker, PSS", f"{number_text(compiled)} MB"],
            ["the same, estimator not compiled", f"{number_text(plain)} MB"],
        ],
        [at_most("memory", "memory per worker", max(compiled, plain), 200, " MB")],
    )


def _start(bench: Bench, server: Server) -> float:
    with bench.running(server, bench.cores.both) as started:
        return started.seconds_to_ready


def _memory(bench: Bench, server: Server) -> float:
    """Return the memory of the largest worker in MB after some load."""
    with bench.running(server) as started, pinned({bench.cores.loader}):
        wrk(bench.request(server), bench.seconds)
        workers = children(started.pid)
        return max(map(proportional_set_size, workers)) / _MEGABYTE
