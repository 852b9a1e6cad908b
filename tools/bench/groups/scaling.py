"""Two workers on two cores against one worker on one core.

wrk needs its share of the cores too, so like is compared with like: one worker and its clients on
one core, two workers and twice the clients on two. Connections come once from several clients, one
after the other, and once in a single burst, of which one worker may accept all.
"""

from contextlib import ExitStack
from statistics import median

from tools.bench import ours
from tools.bench.bench import Bench
from tools.bench.machine import pinned, require_wrk
from tools.bench.report import Goal, Section, at_least, spread
from tools.bench.wrk import CONNECTIONS, Request, asking, parse

_TURN_SECONDS = 1
# How connections come, and from how many clients to each worker; None: one client to all workers.
_CLIENTS = {"of several clients": 2, "in one burst": None}


def measure(bench: Bench) -> Section:
    """Measure what a second worker brings."""
    require_wrk()
    one, two = ours.monitored(bench), ours.monitored(bench, workers=2)
    one_core = {bench.cores.server}
    turns: dict[str, list[tuple[float, float]]] = {how: [] for how in _CLIENTS}
    count = bench.rounds * bench.seconds
    with bench.running(one, one_core), bench.running(two, bench.cores.both):
        for _ in range(count):
            for how, clients in _CLIENTS.items():
                with pinned(one_core):
                    alone = _rate(bench.request(one), CONNECTIONS, clients or 1)
                with pinned(bench.cores.both):
                    both = _rate(bench.request(two), 2 * CONNECTIONS, 2 * clients if clients else 1)
                turns[how].append((alone, both))
    table = [["connections", "requests/s", "lowest – highest"]]
    goals: list[Goal] = []
    for how, rates in turns.items():
        ratios = [both / alone for alone, both in rates]
        table += [
            [f"{how}: 1 worker and they on 1 core", *spread([alone for alone, _ in rates])],
            [f"{how}: 2 workers and they on 2 cores", *spread([both for _, both in rates])],
            [f"{how}: 2 workers ÷ 1", *spread(ratios)],
        ]
        what = f"2 workers on 2 cores ÷ 1 on 1, connections {how}"
        goals.append(at_least("scaling", what, median(ratios), 1.7, "×"))
    return Section(
        f"Two workers on two cores, clients on the same cores, median of {count} turns",
        table,
        goals,
    )


def _rate(request: Request, connections: int, clients: int) -> float:
    """Return the requests a second of several clients together."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(asking(request, _TURN_SECONDS, connections // clients))
            for _ in range(clients)
        ]
        return sum(parse(each.communicate()[0].decode()).rate for each in processes)
