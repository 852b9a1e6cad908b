"""Requests a second on one core, one row each: this service, its ceiling, original and peers."""

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
from bench.wrk import CONNECTIONS, Answered, wrk

Rounds = Mapping[str, Sequence[Answered]]


def measure(bench: Bench) -> Section:
    """Measure every server's throughput."""
    require_wrk()
    notes = [catalogue.LEFT_OUT]
    with ExitStack() as stack, pinned({bench.cores.loader}):
        servers = _started([*_own(bench), *_peers(bench, notes)], bench, stack, notes)
        rounds, loads = _ask_in_turn(bench, servers)
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
        ours.plain(bench),
        ours.unmonitored(bench),
        ours.ceiling(bench),
        catalogue.original(bench),
        catalogue.original_with_extras(bench),
    ]


def _peers(bench: Bench, notes: list[str]) -> list[Server]:
    found = []
    for peer in catalogue.PEERS:
        try:
            found += [*peer.servers(catalogue.install(peer), bench)]
        except BenchError as error:
            notes.append(f"{peer.name} {error}.")
    return found


def _started(
    servers: Sequence[Server], bench: Bench, stack: ExitStack, notes: list[str]
) -> list[Running]:
    """Start all, leaving out peers that do not start or that predict something else."""
    started = []
    right = None
    for server in servers:
        try:
            running = stack.enter_context(bench.running(server))
        except BenchError as error:
            notes.append(f"Left out: {error}.")
            continue
        predicted = server.predict(bench.rows[0])
        right = right or predicted
        if predicted != right and server.name != ours.CEILING:
            notes.append(f"Left out: {server.name} predicts {predicted}, not {right}.")
        else:
            wrk(bench.request(server), 1)
            started.append(running)
        running.sleep()
    return started


def _ask_in_turn(
    bench: Bench, servers: Sequence[Running]
) -> tuple[dict[str, list[Answered]], list[float]]:
    """Return each server's rounds, one after the other in every round; and the loads."""
    rounds: dict[str, list[Answered]] = {each.server.name: [] for each in servers}
    loads = []
    for number in range(bench.rounds):
        for each in servers:
            print(f"bench: round {number + 1}: {each.server.name}", file=sys.stderr)
            with each.awake():
                answered = wrk(bench.request(each.server), bench.seconds)
            rounds[each.server.name].append(answered)
        loads.append(load())
    return rounds, loads


def _rate(rounds: Rounds, name: str) -> float:
    return median(each.rate for each in rounds[name])


def ratio(rounds: Rounds, one: str, other: str) -> float:
    """Return the median over the rounds of one server's rate over another's."""
    pairs = zip(rounds[one], rounds[other], strict=True)
    return median(mine.rate / theirs.rate for mine, theirs in pairs)


def _goals(rounds: Rounds) -> list[Goal]:
    own = (ours.MONITORED, ours.PLAIN, ours.UNMONITORED, ours.CEILING)
    originals = (catalogue.ORIGINAL, catalogue.ORIGINAL_WITH_EXTRAS)
    peers = [name for name in rounds if name not in own + originals]
    fastest = max(peers, key=lambda name: _rate(rounds, name), default=None)
    original = ratio(rounds, ours.MONITORED, catalogue.ORIGINAL)
    plain = ratio(rounds, ours.PLAIN, catalogue.ORIGINAL)
    ceiling = 100 * ratio(rounds, ours.MONITORED, ours.CEILING)
    goals = [
        at_least("throughput", "× the original", original, 20, "×"),
        at_least("throughput", "not compiled: × the original", plain, 10, "×"),
        at_least("throughput", "of the ceiling", ceiling, 50, " %"),
    ]
    if fastest:
        faster = ratio(rounds, ours.MONITORED, fastest)
        peer = at_least("throughput", f"× the fastest peer ({fastest})", faster, 15, "×")
        goals.insert(1, peer)
    return goals


def _table(rounds: Rounds) -> list[list[str]]:
    rows = [["", "requests/s", "lowest – highest", "p50, ms", "× the original", "of the ceiling"]]
    for name, answered in rounds.items():
        rates = [each.rate for each in answered]
        rows.append(
            [
                name,
                *spread(rates),
                number_text(median(each.p50 for each in answered) * 1e3),
                number_text(ratio(rounds, name, catalogue.ORIGINAL)),
                f"{100 * ratio(rounds, name, ours.CEILING):.1f} %",
            ]
        )
    return rows
