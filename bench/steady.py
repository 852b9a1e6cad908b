"""An open-loop load generator: requests are sent on a fixed schedule.

A latency starts when a request is due, so it includes the wait for a free connection. A closed loop
would send fewer requests to a slow server and hide that wait (coordinated omission). The loop polls
without sleeping, so it needs a core to itself.
"""

import gc
import re
import select
import socket
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np

from bench.machine import BenchError
from bench.wrk import CONNECTIONS, Request
from bundle.arrays import Floats

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
# A server that takes this many times as long as the schedule cannot keep up with it.
_MAX_SLOWDOWN = 3.0


def steady(request: Request, rate: float, seconds: float, connections: int = CONNECTIONS) -> Floats:
    """Return the latencies (n,) in seconds at `rate` requests/s. Raises BenchError."""
    loader = _Loader(request, connections)
    gc.disable()
    try:
        return loader.run(rate, round(rate * seconds))
    finally:
        gc.enable()
        loader.close()


def quantile(latencies: Sequence[Floats], share: float) -> float:
    """Return the median over the rounds of a quantile of their latencies, in seconds."""
    return float(np.median([np.quantile(each, share) for each in latencies]))


@dataclass
class _Connection:
    socket: socket.socket
    due: float = 0.0
    received: bytearray = field(default_factory=bytearray)


class _Loader:
    def __init__(self, request: Request, connections: int) -> None:
        parts = urlsplit(request.url)
        address = (parts.hostname or "", parts.port or 80)
        self._messages = [message(request, parts.netloc, parts.path, b) for b in request.bodies]
        self._connections = {}
        self._poll = select.epoll()
        for _ in range(connections):
            each = _Connection(socket.create_connection(address))
            each.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.socket.setblocking(False)  # noqa: FBT003
            self._connections[each.socket.fileno()] = each
            self._poll.register(each.socket, select.EPOLLIN)

    def run(self, rate: float, count: int) -> Floats:
        """Return the latencies (n,) of `count` requests in seconds."""
        latencies: list[float] = []
        free = deque(self._connections.values())
        start = time.perf_counter()
        sent = 0
        while len(latencies) < count:
            now = time.perf_counter()
            if now - start > _MAX_SLOWDOWN * count / rate + 1:
                raise BenchError(
                    f"only {len(latencies)} of {count} responses at {rate:.0f} requests/s"
                )
            while free and sent < count and start + sent / rate <= now:
                self._send(free.popleft(), sent, start + sent / rate)
                sent += 1
            for descriptor, _ in self._poll.poll(0):
                connection = self._connections[descriptor]
                if _complete(connection):
                    latencies.append(time.perf_counter() - connection.due)
                    free.append(connection)
        return np.array(latencies)

    def close(self) -> None:
        """Close every connection."""
        for each in self._connections.values():
            each.socket.close()
        self._poll.close()

    def _send(self, connection: _Connection, number: int, due: float) -> None:
        connection.due = due
        connection.socket.sendall(self._messages[number % len(self._messages)])


def message(request: Request, host: str, path: str, body: bytes) -> bytes:
    """Return the bytes of an HTTP request."""
    head = f"{request.method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def _complete(connection: _Connection) -> bool:
    """Read from a connection; return whether the response is complete.

    Raises BenchError if the status is not 200.
    """
    received = connection.received
    received += connection.socket.recv(65536)
    head, separator, body = received.partition(b"\r\n\r\n")
    if received and not separator:
        return False
    length = _LENGTH.search(head + b"\r\n")
    if not head.startswith(b"HTTP/1.1 200") or length is None:
        raise BenchError(f"unexpected response: {bytes(head.partition(bytes([13]))[0])!r}")
    if len(body) < int(length[1]):
        return False
    received.clear()
    return True
