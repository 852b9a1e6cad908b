"""The gunicorn worker: uvicorn, without the parts that this service does not need.

It relies on these attributes, which tests/unit/serving/test_dependencies.py guards: UvicornWorker's
config, wsgi, sockets, ppid, callback_notify, load_wsgi and _serve; uvicorn's Server.startup,
shutdown, started, lifespan and server_state; gunicorn's Arbiter.WORKER_BOOT_ERROR.
"""

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
from serving.workers.connection_counts import ConnectionCount
from serving.workers.listener import AcceptPolicy, Connections, Listener


class Worker(UvicornWorker):  # type: ignore[misc]
    """Requests are counted, not logged; no header names the server."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "access_log": False,
        "server_header": False,
        "timeout_notify": 1,
    }
    # Set by the master before it forks.
    connection_count: ConnectionCount

    def load_wsgi(self) -> None:
        """Load the application; if its bundle does not load, exit with one line in the log.

        The entrypoint has loaded the bundle before, so this happens only if it has changed since.
        The master then starts another worker; those that run keep running.
        """
        try:
            super().load_wsgi()
        except BundleError as error:
            self.log.critical("%s", error)
            sys.exit(1)

    async def callback_notify(self) -> None:
        """Notify the master, once a second, that this worker lives; stop if there is no master.

        The workers of a killed master would keep its ports, and no other could start.
        """
        await super().callback_notify()
        if os.getppid() != self.ppid:
            _stop()

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        server = _Server(self.config, self.connection_count)
        self._install_sigquit_handler()
        await server.serve(sockets=self.sockets)
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def _install_sigquit_handler(self) -> None:
        """Stop on SIGQUIT as well: the base class sets a flag that uvicorn does not read."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, _stop)


class _Server(Server):
    """uvicorn's server, with listeners that take the other workers into account."""

    def __init__(self, config: Config, count: ConnectionCount) -> None:
        super().__init__(config)
        self._count = count
        self._listeners: list[Listener] = []
        self._policy = AcceptPolicy(count)
        self.server_state.connections = Connections(self._policy)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, once the application is ready."""
        await super().startup(sockets=[])
        self._count.start()
        self._listeners = [
            Listener(each, self._create_protocol, self._policy) for each in sockets or []
        ]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting before the existing connections are closed."""
        self._count.stop()
        for each in self._listeners:
            await each.close()
        await super().shutdown(sockets)

    def _create_protocol(self) -> asyncio.Protocol:
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
