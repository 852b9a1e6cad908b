"""The gunicorn worker: uvicorn, without what this service does not need."""

import asyncio
import os
import signal
import socket
import sys
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from bundle.load import BundleError
from serving.http.predict_protocol import Protocol
from serving.workers.connection_counts import Seat
from serving.workers.listener import Connections, Listener, Share


class Worker(UvicornWorker):  # type: ignore[misc]
    """Requests are counted, not logged one by one; no header tells which server this is."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "access_log": False,
        "server_header": False,
        "timeout_notify": 1,
    }
    # Given by the master, before it forks.
    seat: Seat
    token: "Token"

    def load_wsgi(self) -> None:
        """Load the application; where its bundle does not load, stop the service with one line.

        Who gets the token does so. A second such exit would reach gunicorn's master while it stops,
        as an exception that nothing there catches.
        """
        try:
            super().load_wsgi()
        except BundleError as error:
            if not self.token.take():
                sys.exit(1)
            self.log.critical("%s", error)
            sys.exit(Arbiter.APP_LOAD_ERROR)

    async def callback_notify(self) -> None:
        """Tell the master, once a second, that this worker lives; without a master, stop.

        Workers of a killed master would keep its ports, and no other could start in its place.
        """
        await super().callback_notify()
        if os.getppid() != self.ppid:
            _stop()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = _Server(self.config, self.seat)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _install_sigquit_handler(self) -> None:
        """Stop at SIGQUIT, too: the base class sets a flag that nothing in uvicorn reads."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, _stop)


class Token:
    """What only one of several processes gets, the first that asks. Made before they are forked."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        os.write(write, b"!")
        os.close(write)

    def take(self) -> bool:
        """Tell whether this process has it."""
        return bool(os.read(self._read, 1))


class _Server(Server):
    """uvicorn's server, with listeners that know of the other workers."""

    def __init__(self, config: Config, seat: Seat) -> None:
        super().__init__(config)
        self._seat = seat
        self._listeners: list[Listener] = []
        self._share = Share(seat)
        self.server_state.connections = Connections(self._share)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, once the application is ready."""
        await super().startup(sockets=[])
        self._seat.take()
        self._listeners = [
            Listener(each, self._create_protocol, self._share) for each in sockets or []
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more, and only then close what there is: no connection comes after that."""
        self._seat.leave()
        for each in self._listeners:
            await each.close()
        await super().shutdown(sockets)

    def _create_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
