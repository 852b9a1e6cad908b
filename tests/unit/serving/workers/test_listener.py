"""Connections are distributed among workers, and a worker that accepts none delays nobody."""

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from serving.workers.connection_counts import ConnectionCount, ConnectionCounts
from serving.workers.listener import AcceptPolicy, Connections, Listener

BURST = 32
NOW = 1000.0


class Worker:
    """The part of a worker that is tested: its connection count, its policy and its connections."""

    def __init__(self, count: ConnectionCount) -> None:
        self.count = count
        self.count.start()
        self.policy = AcceptPolicy(count)
        self.connections = Connections(self.policy)

    @property
    def held(self) -> int:
        """The number of its connections."""
        return len(self.connections)

    def connected(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return Protocol(self.connections)

    async def close(self) -> None:
        """Close every connection."""
        for each in self.connections:
            each.transport.close()
        await until(lambda: not self.connections)


class Protocol(asyncio.Protocol):
    """A connection that sends nothing."""

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self._connections.add(self)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """Remove the connection."""
        del exc
        self._connections.discard(self)


class FailingSocket(socket.socket):
    """A socket that raises prepared errors and counts accepted connections."""

    def __init__(self, fileno: int) -> None:
        super().__init__(fileno=fileno)
        self.failures: list[OSError] = []
        self.accepted = 0

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection, or raise the next error."""
        if self.failures:
            raise self.failures.pop()
        found = super().accept()
        self.accepted += 1
        return found


@pytest.fixture
def workers() -> list[Worker]:
    """Return two workers that listen."""
    counts = ConnectionCounts()
    one = counts.free([])
    return [Worker(one), Worker(counts.free([one]))]


@pytest.fixture
def where() -> Iterator[socket.socket]:
    """Yield a socket that both workers can listen on."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * BURST) as where:
        yield where


def connect(where: socket.socket, count: int) -> list[socket.socket]:
    """Return connections that are not accepted yet."""
    return [socket.create_connection(where.getsockname()) for _ in range(count)]


def run(clients: list[socket.socket], what: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine, then close the clients' connections."""
    try:
        asyncio.run(asyncio.wait_for(what, timeout=60))
    finally:
        for each in clients:
            each.close()


async def until(check: Callable[[], bool]) -> None:
    """Return once a condition holds, while the event loop continues."""
    while not check():  # noqa: ASYNC110 the condition has no event
        await asyncio.sleep(0)


def test_a_burst_of_connections_is_distributed(workers: list[Worker], where: socket.socket) -> None:
    """Each of two workers gets half of 32 connections, plus at most an eighth."""
    clients = connect(where, BURST)
    held: list[int] = []

    async def serve() -> None:
        with where.dup() as again:
            listeners = [
                Listener(at, worker.connected, worker.policy)
                for at, worker in zip((where, again), workers, strict=True)
            ]
            await until(lambda: sum(each.held for each in workers) == BURST)
            held.extend(each.held for each in workers)
            for listener, worker in zip(listeners, workers, strict=True):
                await listener.close()
                await worker.close()

    run(clients, serve())

    assert max(held) <= BURST / 2 * 9 / 8


def test_a_worker_that_accepts_nothing_delays_nobody(
    workers: list[Worker], where: socket.socket
) -> None:
    """The others wait briefly for a stopped or busy worker, and then accept."""
    clients = connect(where, BURST)

    async def serve() -> None:
        listener = Listener(where, workers[0].connected, workers[0].policy)
        await until(lambda: workers[0].held == BURST)
        await listener.close()
        await workers[0].close()

    run(clients, serve())


def test_a_stopped_worker_is_not_waited_for(workers: list[Worker]) -> None:
    """Its connection count no longer matters, however small it is."""
    ahead, other = workers
    ahead.policy.opened()
    assert not ahead.policy.may_accept()

    other.count.stop()

    assert ahead.policy.may_accept()


@pytest.mark.parametrize(
    ("own", "others", "is_ahead"),
    [(0, 0, False), (1, 0, True), (1, 1, False), (9, 8, False), (10, 8, True), (3, 9, False)],
)
def test_a_worker_is_ahead_with_an_eighth_more_connections(
    workers: list[Worker], own: int, others: int, *, is_ahead: bool
) -> None:
    """With few connections, one more is enough."""
    workers[0].count.add(own)
    workers[1].count.add(others)

    assert workers[0].count.is_ahead is is_ahead


def test_a_worker_that_is_ahead_waits_10_ms(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It then accepts for a second, and afterwards waits again."""
    clock = [NOW]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    policy = workers[0].policy
    policy.opened()

    def look(milliseconds: int) -> bool:
        clock[0] = NOW + milliseconds / 1000
        return policy.may_accept()

    assert [look(at) for at in range(10)] == [False] * 10
    assert all(look(at) for at in (11, 12, 500, 1010))
    assert not look(1012)
    # Other workers accepted the connections meanwhile; a new connection starts a new wait.
    assert not look(1100)
    assert not look(1101)


def test_a_reopened_connection_is_accepted_at_once(
    workers: list[Worker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that connects for each request may replace one closed connection, for 10 ms."""
    clock = [NOW]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    policy = workers[0].policy
    for _ in range(4):
        policy.opened()
    policy.closed()
    policy.closed()
    assert policy.may_accept()

    clock[0] = NOW + 0.011

    assert not policy.may_accept()


def test_a_lost_connection_is_counted_once(workers: list[Worker]) -> None:
    """Uvicorn's protocol may report the loss more than once."""
    ahead, other = workers
    for _ in range(2):
        ahead.policy.opened()
    ahead.connections.add("a")
    other.policy.opened()

    ahead.connections.discard("a")
    ahead.connections.discard("a")

    assert not ahead.count.is_ahead
    assert not other.count.is_ahead


def test_a_connection_whose_protocol_fails_is_not_counted(
    workers: list[Worker], where: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    """The error is logged, and only that connection is lost."""
    clients = connect(where, 1)

    def fail() -> asyncio.Protocol:
        raise LookupError("no protocol")

    async def serve() -> None:
        listener = Listener(where, fail, workers[0].policy)
        await until(lambda: "before its first request" in caplog.text)
        await listener.close()

    run(clients, serve())

    assert not workers[0].count.is_ahead
    assert "no protocol" in caplog.text


def test_a_worker_without_descriptors_accepts_again(
    workers: list[Worker],
    where: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It logs the error, pauses, and loses no waiting connection."""
    monkeypatch.setattr("serving.workers.listener._EXHAUSTED_SECONDS", 0.01)
    clients = connect(where, 2)

    async def serve() -> None:
        with FailingSocket(fileno=where.dup().detach()) as watched:
            watched.failures.append(OSError(errno.EMFILE, "Too many open files"))
            listener = Listener(watched, workers[0].connected, workers[0].policy)
            await until(lambda: workers[0].held == len(clients))
            await listener.close()
            await workers[0].close()

    run(clients, serve())

    assert "connections cannot be accepted" in caplog.text
    assert "Too many open files" in caplog.text


def test_a_closed_listener_knows_every_accepted_connection(
    workers: list[Worker], where: socket.socket
) -> None:
    """They are closed with it, and connections that are not accepted are left to other workers."""
    clients = connect(where, 2)
    held = []

    async def serve() -> None:
        workers[1].count.stop()
        with FailingSocket(fileno=where.dup().detach()) as watched:
            listener = Listener(watched, workers[0].connected, workers[0].policy)
            await until(lambda: watched.accepted == len(clients))
            await listener.close()
            held.append(workers[0].held)
            clients.extend(connect(where, 1))
            for _ in range(10):
                await asyncio.sleep(0)
            held.append(workers[0].held)
            await workers[0].close()

    run(clients, serve())

    assert held == [2, 2]
    left, _ = where.accept()
    left.close()
