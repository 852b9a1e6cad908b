"""Two workers on two cores against one worker on one core.

wrk uses the same cores as the workers, so its load has to grow with theirs: one worker and its
clients on one core, two workers and twice the clients on two. All connections open in one burst.
"""

from statistics import median

from bench import ours
from bench.bench import Bench
from bench.machine import pinned, require_wrk
from bench.report import Section, at_least, spread
from bench.wrk import CONNECTIONS, wrk

_TURN_SECONDS = 1


def measure(bench: Bench) -> Section:
    """Measure the speedup by a second worker."""
    require_wrk()
    one, two = ours.monitored(bench), ours.monitored(bench, workers=2)
    one_core, both_cores = {bench.cores.server}, bench.cores.both
    single, double = [], []
    with bench.running(one, one_core), bench.running(two, both_cores):
        for _ in range(bench.rounds * bench.seconds):
            with pinned(one_core):
                single.append(wrk(bench.request(one), _TURN_SECONDS).rate)
            with pinned(both_cores):
                double.append(wrk(bench.request(two), _TURN_SECONDS, 2 * CONNECTIONS).rate)
    ratios = [two_rate / one_rate for one_rate, two_rate in zip(single, double, strict=True)]
    return Section(
        f"Two workers on two cores, clients on the same cores, median of {len(ratios)} turns",
        [
            ["", "requests/s", "lowest – highest"],
            ["1 worker and its clients on 1 core", *spread(single)],
            ["2 workers and twice the clients on 2 cores", *spread(double)],
            ["2 workers ÷ 1", *spread(ratios)],
        ],
        [at_least("scaling", "2 workers on 2 cores ÷ 1 on 1", median(ratios), 1.7, "×")],
    )
