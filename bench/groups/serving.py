"""Requests per second on one core, one row each: this service, its ceiling and other servers."""

import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from statistics import median

from bench import ours
from bench.bench import Bench
from bench.machine import BenchError, load, pinned, require_wrk
from bench.peers import catalogue
from bench.report import Goal, Section, at_least, number_text, spread
from bench.servers import Running, Server
from bench.wrk import CONNECTIONS, Throughput, wrk

Rounds = Mapping[str, Sequence[Throughput]]


def measure(bench: Bench) -> Section:
    """Measure every server's throughput."""
    require_wrk()
    notes = [catalogue.EXCLUDED]
    with ExitStack() as stack, pinned({bench.cores.loader}):
        servers = _started([*_own(bench), *_peers(bench, notes)], bench, stack, notes)
        rounds, loads = _measure_in_turn(bench, servers)
    notes.append(f"Load average of the machine meanwhile: {min(loads):.1f} to {max(loads):.1f}.")
    return Section(
        f"One core, one row per request, {CONNECTIONS} connections,"
        f" median of {bench.rounds} rounds of {bench.seconds} s",
        _table(rounds),
        _goals(rounds),
        notes,
    )


def _own(bench: Bench) -> list[Server]:
    return [
        ours.monitored(bench),
        ours.routed(bench),
        ours.plain(bench),
        ours.unmonitored(bench),
        ours.ceiling(bench),
        catalogue.jeremyjordan(bench),
        catalogue.jeremyjordan_with_extras(bench),
    ]


def _peers(bench: Bench, notes: list[str]) -> list[Server]:
    found = []
    for peer in catalogue.PEERS:
        try:
            found += [*peer.servers(catalogue.install(peer), bench)]
        except BenchError as error:
            notes.append(f"Left out: {peer.name}: {error}.")
    return found


def _started(
    servers: Sequence[Server], bench: Bench, stack: ExitStack, notes: list[str]
) -> list[Running]:
    """Start the servers, except those that fail to start or that predict a different value."""
    started = []
    correct = None
    for server in servers:
        try:
            running = stack.enter_context(bench.running(server))
        except BenchError as error:
            notes.append(f"Left out: {error}.")
            continue
        predicted = server.predict(bench.rows[0])
        correct = correct or predicted
        if predicted != correct and server.name != ours.CEILING:
            notes.append(f"Left out: {server.name} predicts {predicted}, not {correct}.")
        else:
            wrk(bench.request(server), 1)
            started.append(running)
        running.suspend()
    return started


def _measure_in_turn(
    bench: Bench, servers: Sequence[Running]
) -> tuple[dict[str, list[Throughput]], list[float]]:
    """Measure all servers in every round; return each server's rounds, and the load averages."""
    rounds: dict[str, list[Throughput]] = {each.server.name: [] for each in servers}
    loads = []
    for number in range(bench.rounds):
        for each in servers:
            print(f"bench: round {number + 1}: {each.server.name}", file=sys.stderr)
            with each.resumed():
                throughput = wrk(bench.request(each.server), bench.seconds)
            rounds[each.server.name].append(throughput)
        loads.append(load())
    return rounds, loads


def _rate(rounds: Rounds, name: str) -> float:
    return median(each.rate for each in rounds[name])


def ratio(rounds: Rounds, name: str, other: str) -> float:
    """Return the median over the rounds of a server's rate divided by another's."""
    pairs = zip(rounds[name], rounds[other], strict=True)
    return median(one.rate / two.rate for one, two in pairs)


def _goals(rounds: Rounds) -> list[Goal]:
    own = (ours.MONITORED, ours.ROUTED, ours.PLAIN, ours.UNMONITORED, ours.CEILING)
    jeremyjordan = (catalogue.JEREMYJORDAN, catalogue.JEREMYJORDAN_WITH_EXTRAS)
    peers = [name for name in rounds if name not in own + jeremyjordan]
    fastest = max(peers, key=lambda name: _rate(rounds, name), default=None)
    compiled = ratio(rounds, ours.MONITORED, catalogue.JEREMYJORDAN)
    plain = ratio(rounds, ours.PLAIN, catalogue.JEREMYJORDAN)
    ceiling = 100 * ratio(rounds, ours.MONITORED, ours.CEILING)
    goals = [
        at_least("throughput", f"ratio to {catalogue.JEREMYJORDAN}", compiled, 20, "×"),
        at_least("throughput", f"not compiled: ratio to {catalogue.JEREMYJORDAN}", plain, 10, "×"),
        at_least("throughput", "share of the ceiling", ceiling, 50, " %"),
    ]
    if fastest:
        faster = ratio(rounds, ours.MONITORED, fastest)
        peer = at_least("throughput", f"ratio to the fastest peer ({fastest})", faster, 15, "×")
        goals.insert(1, peer)
    return goals


def _table(rounds: Rounds) -> list[list[str]]:
    ratio_head = f"ratio to {catalogue.JEREMYJORDAN}"
    rows = [["", "requests/s", "lowest – highest", "p50, ms", ratio_head, "share of the ceiling"]]
    for name, throughputs in rounds.items():
        rates = [each.rate for each in throughputs]
        rows.append(
            [
                name,
                *spread(rates),
                number_text(median(each.p50 for each in throughputs) * 1e3),
                number_text(ratio(rounds, name, catalogue.JEREMYJORDAN)),
                f"{100 * ratio(rounds, name, ours.CEILING):.1f} %",
            ]
        )
    return rows
