"""The gunicorn worker: uvicorn, without what this service does not need."""

import asyncio
import os
import signal
import sys
from typing import Any, ClassVar

from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from bundle.load import BundleError
from serving.protocol import Protocol


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

    def load_wsgi(self) -> None:
        """Load the application; where its bundle does not load, stop the service with one line."""
        try:
            super().load_wsgi()
        except BundleError as error:
            self.log.critical("%s", error)
            sys.exit(Arbiter.APP_LOAD_ERROR)

    async def callback_notify(self) -> None:
        """Tell the master, once a second, that this worker lives; without a master, stop.

        Workers of a killed master would keep its ports, and no other could start in its place.
        """
        await super().callback_notify()
        if os.getppid() != self.ppid:
            _stop()

    def _install_sigquit_handler(self) -> None:
        """Stop at SIGQUIT, too: the base class sets a flag that nothing in uvicorn reads."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGQUIT, _stop)


def _stop() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
