"""A healthy client's latency beside many that send their requests byte by byte."""

import multiprocessing
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.synchronize import Event
from urllib.parse import urlsplit

from bench import ours
from bench.bench import Bench
from bench.machine import BenchError, pinned
from bench.report import Section, at_most, number_text
from bench.steady import message, quantile, steady
from bench.wrk import Request

_CLIENTS = 200
# Each sends a byte as often; a request then takes longer than most timeouts of clients.
_BYTE_SECONDS = 0.5
_RATE = 200.0
_CONNECT_SECONDS = 30
_SHARES = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999}


def measure(bench: Bench) -> Section:
    """Measure both in turn."""
    server = ours.monitored(bench)
    request = bench.request(server)
    alone, beside = [], []
    with bench.running(server), pinned({bench.cores.loader}):
        for _ in range(bench.rounds):
            alone.append(steady(request, _RATE, bench.seconds, connections=1))
            with _slow_clients(request):
                beside.append(steady(request, _RATE, bench.seconds, connections=1))
    rows = {"alone": alone, f"beside {_CLIENTS} slow clients": beside}
    return Section(
        f"Latency in ms of one client, {_RATE:.0f} requests/s, one worker",
        [
            ["", *_SHARES],
            *(
                [name, *(number_text(quantile(each, share) * 1e3) for share in _SHARES.values())]
                for name, each in rows.items()
            ),
        ],
        [
            at_most(
                "slow clients",
                "p99 beside them ÷ alone",
                quantile(beside, 0.99) / quantile(alone, 0.99),
                2,
            )
        ],
    )


@contextmanager
def _slow_clients(request: Request) -> Iterator[None]:
    """Let them send while the block runs, all at the same moments.

    They have a process of their own: in a thread they would delay the client that is measured,
    which polls without a pause, and it them.
    """
    parts = urlsplit(request.url)
    address = parts.hostname or "", parts.port or 80
    content = message(request, parts.netloc, parts.path, request.bodies[0])
    fork = multiprocessing.get_context("fork")
    started, stop = fork.Event(), fork.Event()
    sender = fork.Process(target=_send, args=(address, content, started, stop), daemon=True)
    sender.start()
    try:
        if not started.wait(_CONNECT_SECONDS):
            raise BenchError("the slow clients have no connections")
        yield
    finally:
        stop.set()
        sender.join()
    if sender.exitcode:
        raise BenchError("a slow client failed")


def _send(address: tuple[str, int], content: bytes, started: Event, stop: Event) -> None:
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection(address, timeout=_CONNECT_SECONDS))
            for _ in range(_CLIENTS)
        ]
        started.set()
        for at in range(len(content)):
            for each in sockets:
                each.sendall(content[at : at + 1])
            if stop.wait(_BYTE_SECONDS):
                return
