"""Ports for the servers under measurement, reserved for the whole run.

A port that is merely looked up may be taken by another server, or by an outgoing connection, before
its server binds it. So each port stays bound to a socket that never listens: the kernel then gives
it to nobody else, but servers, which all set SO_REUSEADDR, can still bind it and listen.
"""

import socket
from contextlib import ExitStack
from types import TracebackType
from typing import Self


class Ports:
    """Reserves ports of 127.0.0.1 until it is closed."""

    def __init__(self) -> None:
        self._sockets = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._sockets.close()

    def reserve(self) -> int:
        """Return a port that no other process, and no other call, gets."""
        holder = self._sockets.enter_context(socket.socket())
        holder.bind(("127.0.0.1", 0))
        # Only now: a socket that binds port 0 with SO_REUSEADDR may get the port of another one.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port: int = holder.getsockname()[1]
        return port
