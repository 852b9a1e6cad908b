"""Two workers on two cores against one worker on one core.

wrk needs its share of the cores too, so like is compared with like: one worker and its clients on
one core, two workers and twice the clients on two. There are several clients, that connect one
after the other: a single burst of connections may be accepted by the same worker as a whole, and
the other one would have nothing to do.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from statistics import median

from tools.bench import ours
from tools.bench.bench import Bench
from tools.bench.machine import pinned, require_wrk
from tools.bench.report import Section, at_least, number_text
from tools.bench.wrk import CONNECTIONS, Request, asking, parse

_TURN_SECONDS = 1
_CLIENTS = 2


def measure(bench: Bench) -> Section:
    """Measure what a second worker brings."""
    require_wrk()
    one, two = ours.monitored(bench), ours.monitored(bench, workers=2)
    one_core = {bench.cores.server}
    turns = []
    with bench.running(one, one_core), bench.running(two, bench.cores.both):
        for _ in range(bench.rounds * bench.seconds):
            with pinned(one_core):
                alone = _rate(bench.request(one), _CLIENTS)
            with pinned(bench.cores.both):
                both = _rate(bench.request(two), 2 * _CLIENTS)
            turns.append((alone, both))
    ratios = [both / alone for alone, both in turns]
    return Section(
        f"Two workers on two cores, clients on the same cores, {len(turns)} turns",
        [
            ["", "requests/s", "lowest – highest"],
            ["1 worker and its clients on 1 core", *_row([alone for alone, _ in turns])],
            ["2 workers and twice the clients on 2 cores", *_row([both for _, both in turns])],
            ["2 workers ÷ 1", *_row(ratios)],
        ],
        [at_least("scaling", "2 workers on 2 cores ÷ 1 on 1", median(ratios), 1.7, "×")],
    )


def _rate(request: Request, clients: int) -> float:
    """Return the requests a second of several clients together."""
    with ExitStack() as stack:
        processes = [
            stack.enter_context(asking(request, _TURN_SECONDS, CONNECTIONS // _CLIENTS))
            for _ in range(clients)
        ]
        return sum(parse(each.communicate()[0].decode()).rate for each in processes)


def _row(values: Sequence[float]) -> list[str]:
    return [number_text(median(values)), f"{number_text(min(values))} – {number_text(max(values))}"]
