"""Two workers on two cores against one worker on one core.

wrk needs its share of the cores too, so like is compared with like: one worker and wrk on one core,
two workers and wrk (twice the connections) on two. Turns are short, so that both have their share
of what else the machine does.
"""

from statistics import median

from tools.bench import ours
from tools.bench.bench import Bench
from tools.bench.machine import pinned, require_wrk
from tools.bench.report import Section, at_least
from tools.bench.wrk import CONNECTIONS, wrk

_TURN_SECONDS = 1


def measure(bench: Bench) -> Section:
    """Measure what a second worker brings."""
    require_wrk()
    one, two = ours.monitored(bench), ours.monitored(bench, workers=2)
    one_core = {bench.cores.server}
    rates = []
    with bench.running(one, one_core), bench.running(two, bench.cores.both):
        for _ in range(bench.rounds * bench.seconds):
            with pinned(one_core):
                alone = wrk(bench.request(one), _TURN_SECONDS).rate
            with pinned(bench.cores.both):
                both = wrk(bench.request(two), _TURN_SECONDS, 2 * CONNECTIONS).rate
            rates.append((alone, both))
    figure = median(both / alone for alone, both in rates)
    return Section(
        f"Two workers on two cores, with the loader, {len(rates)} turns of {_TURN_SECONDS} s",
        [
            ["", "requests/s"],
            ["1 worker and wrk on 1 core", f"{median(a for a, _ in rates):,.0f}"],
            ["2 workers and wrk on 2 cores", f"{median(b for _, b in rates):,.0f}"],
        ],
        [at_least("scaling", "2 workers on 2 cores ÷ 1 on 1", figure, 1.7, "×")],
    )
