"""When labels may be sent, and what replicas tell each other."""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf

import pytest

from publisher.barrier import Barrier
from publisher.errors import TransientError
from publisher.peers import SETTLED, Peers
from tests.support.export import Replicas
from tests.support.machine import free_port
from tests.support.servers import serving


class _Metrics(ThreadingHTTPServer):
    """Answers every request with a text."""

    def __init__(self, text: str) -> None:
        self.text = text
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Metrics

    def do_GET(self) -> None:
        """Answer a scrape."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def answering(text: str) -> Iterator[int]:
    """Serve metrics on a port while the block runs."""
    with serving(_Metrics(text)) as server:
        yield server.server_port


class Harness:
    """A barrier whose clocks the test sets; a pass takes no time."""

    def __init__(self, delay: float) -> None:
        self.now = 0.0
        self.replicas = Replicas()
        self.barrier = Barrier(
            delay, self.replicas, clock=lambda: self.now, now=lambda: 1_000.0 + self.now
        )

    def pass_at(self, now: float) -> dict[str, int]:
        """Return what is released after a pass that finds as many bytes as seconds."""
        self.now = now
        self.barrier.end(self.barrier.begin({"segment": int(now)}))
        return self.barrier.release()


def test_labels_are_released_once_their_pass_has_settled() -> None:
    """A label waits for the delay, plus at most a tenth of it."""
    harness = Harness(delay=100.0)
    waits = []
    for second in range(500):
        released = harness.pass_at(float(second))
        if released:
            waits.append(second - released["segment"])

    assert len(waits) >= 39
    assert set(waits) == {100}


def test_the_barrier_waits_for_the_slowest_replica() -> None:
    """Nothing is released that was spooled after what all replicas have published."""
    harness = Harness(delay=10.0)
    harness.replicas.time = 1_050.0
    released = [harness.pass_at(float(second)) for second in range(200)]

    offsets = [each["segment"] for each in released if each]
    assert max(offsets) == 44
    assert harness.barrier.settled == 1_189.0

    harness.replicas.time = inf
    assert harness.pass_at(200.0)["segment"] == 190


def test_a_replica_that_is_behind_for_days_costs_no_memory() -> None:
    """Marks are thinned out, and what they allow is released in the end."""
    harness = Harness(delay=10.0)
    harness.replicas.time = 0.0
    for second in range(10_000):
        assert harness.pass_at(float(second)) == {}

    assert len(harness.barrier._marks) <= 100  # noqa: SLF001
    harness.replicas.time = inf
    assert harness.pass_at(10_000.0)["segment"] == 9_990


def test_peers_are_asked_by_their_metrics() -> None:
    """The earliest time of all addresses counts."""
    with (
        answering(f"{SETTLED} 1.8e9\n") as first,
        answering(f"# HELP x y\n{SETTLED} 1.7e9\nother 1\n") as second,
    ):
        assert Peers(f"127.0.0.1:{first},127.0.0.1:{second}").settled() == 1.7e9


def test_without_peers_labels_wait_for_nobody() -> None:
    """A single publisher has only its own spool."""
    assert Peers().settled() == inf


@pytest.mark.parametrize("text", ["", "other 1\n", "no metrics at all"])
def test_a_peer_that_says_nothing_holds_labels_back(text: str) -> None:
    """An answer without the metric, as from an older publisher, is no permission."""
    with answering(text) as port, pytest.raises(TransientError):
        Peers(f"127.0.0.1:{port}").settled()


def test_a_peer_that_does_not_answer_holds_labels_back() -> None:
    """It may hold predictions."""
    with pytest.raises(TransientError, match="does not answer"):
        Peers(f"127.0.0.1:{free_port()}").settled()


def test_a_name_without_address_holds_labels_back() -> None:
    """A name server that fails must not release labels."""
    with pytest.raises(TransientError):
        Peers("no-such-host.invalid:9647").settled()
