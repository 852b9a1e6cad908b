"""The gunicorn worker: uvicorn, without the parts that this service does not need.

It relies on these attributes, which tests/unit/serving/test_dependencies.py guards: UvicornWorker's
config, wsgi, sockets, ppid, age, cfg, notify, load_wsgi and _serve; uvicorn's Server._serve,
startup, shutdown, started, lifespan and server_state, and Config.timeout_graceful_shutdown;
gunicorn's Arbiter.WORKER_BOOT_ERROR.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from typing import Any, ClassVar, NoReturn

from gunicorn.arbiter import Arbiter
from uvicorn.config import Config
from uvicorn.server import Server
from uvicorn_worker import UvicornWorker

from serving import logs
from serving.http.predict_protocol import Protocol
from serving.workers.connection_counts import ConnectionCount
from serving.workers.listener import AcceptPolicy, Connections, Listener

_NOTIFY_SECONDS = 1.0
# How long requests may take to end once the master is dead. Whoever starts the service again waits
# for it, because this worker still uses the metrics directory.
_ORPHAN_SECONDS = 3
# Then it ends even if its event loop does not.
_ORPHAN_MARGIN_SECONDS = 1


class Worker(UvicornWorker):  # type: ignore[misc]
    """Requests are counted, not logged; no header names the server."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": Protocol,
        "ws": "none",
        "access_log": False,
        "server_header": False,
        # See notify_master: uvicorn calls it by the wall clock, which may be set back.
        "callback_notify": None,
    }
    # Set by the master before it forks.
    connection_count: ConnectionCount

    def load_wsgi(self) -> None:
        """Load the application. At the first start, a failure ends the service.

        Later it ends only this worker: the master starts another one, and those that run keep
        running.
        """
        try:
            super().load_wsgi()
        except Exception:
            self.log.exception("a worker did not start")
            is_first = self.age <= self.cfg.workers
            sys.exit(Arbiter.WORKER_BOOT_ERROR if is_first else 1)

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        # The master waits as long when it stops; in a reload only this ends a stalled connection.
        self.config.timeout_graceful_shutdown = self.cfg.graceful_timeout
        server = _Server(self.config, self.connection_count)
        self._install_sigquit_handler()
        notifying = asyncio.create_task(self.notify_master())
        await server.serve(sockets=self.sockets)
        notifying.cancel()
        self.wsgi.state.catch_up()
        if not server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    async def notify_master(self) -> None:
        """Notify the master, every second until the end, that this worker lives; and catch up.

        The master kills a worker that does not, so nothing that fails here may end it.
        How late the loop gets to it is how late it gets to a request that arrives.
        If there is no master any more, stop: its ports would stay in use, and no other could start.
        """
        while os.getppid() == self.ppid:
            self.notify()
            due = time.monotonic() + _NOTIFY_SECONDS
            await asyncio.sleep(_NOTIFY_SECONDS)
            self.wsgi.state.loop_lag.observe(time.monotonic() - due)
            try:
                self.wsgi.state.catch_up()
            except Exception:
                self.log.exception("what waits for a second was not done")
        self.config.timeout_graceful_shutdown = _ORPHAN_SECONDS
        _stop()
        await asyncio.sleep(_ORPHAN_SECONDS + _ORPHAN_MARGIN_SECONDS)
        _exit()

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

    async def _serve(self, sockets: list[socket.socket] | None = None) -> None:
        await super()._serve(sockets)
        # The signal that was caught now ends the process.
        logs.flush()

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


def _exit() -> NoReturn:
    logs.flush()
    os._exit(1)
