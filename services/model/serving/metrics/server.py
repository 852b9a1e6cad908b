"""The metrics port, served by gunicorn's master: a scrape never delays a prediction.

`/metrics` is for Prometheus; `/` links to it and to the other services, for people.
"""

import contextlib
import gzip
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Collection
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from bundle.manifest import Manifest
from serving.metrics import index
from serving.metrics.archive import files_lock
from serving.metrics.bundle_facts import FactsCollector
from serving.metrics.exposition import Exposition, MissingFileError
from serving.settings import Settings

_OPENMETRICS = "application/openmetrics-text"
_OPENMETRICS_END = b"# EOF\n"
# An idle connection is closed after four missed scrapes.
_IDLE_SECONDS = 60
# Each connection has a thread. One more than this, and the one that was idle longest is closed.
MAX_CONNECTIONS = 32
_CHECK_SECONDS = 0.05

log = logging.getLogger(__name__)


class Page(NamedTuple):
    """What is served: its content type and its bytes."""

    content_type: str
    content: bytes


class Pages:
    """Renders the index, and /metrics in the format that a scraper asks for.

    `alive` returns the pids of the workers that must have metric files. `processes` is collected
    by one scrape at a time.
    """

    def __init__(
        self, settings: Settings, alive: Callable[[], Collection[int]], processes: Collector
    ) -> None:
        self._api_port = settings.port
        self._alive = alive
        self._started = time.time()
        self._exposition = Exposition(settings.metrics_dir)
        self._processes = CollectorRegistry()
        self._processes.register(processes)

    def show(self, manifest: Manifest, trained_at: str) -> None:
        """Export the facts of a bundle from now on."""
        registry = CollectorRegistry()
        registry.register(FactsCollector(manifest, trained_at, self._started))

        # A few, so that made-up headers do not fill the memory.
        @lru_cache(maxsize=8)
        def facts(accept: str) -> Page:
            # Of OpenMetrics, this part ends with the format's last line.
            encode, content_type = choose_encoder(accept)
            return Page(content_type, encode(registry))

        self._manifest, self._facts = manifest, facts

    def render(self, accept: str) -> Page:
        """Return the page for an `Accept` header, by content negotiation as prometheus_client's.

        Raises MissingFileError.
        """
        facts = self._facts(accept)
        openmetrics = facts.content_type.startswith(_OPENMETRICS)
        with files_lock:
            workers = self._exposition.text(openmetrics=openmetrics, alive=self._alive())
            processes = choose_encoder(accept)[0](self._processes)
        parts = (workers.encode(), processes.removesuffix(_OPENMETRICS_END), facts.content)
        return Page(facts.content_type, b"".join(parts))

    def index(self, host: str) -> Page:
        """Return the page for a `Host` header that links to what runs."""
        content = index.render(self._manifest, host, self._api_port, os.environ)
        return Page("text/html; charset=utf-8", content)


class Connection:
    """What is known of a scraper's connection."""

    def __init__(self) -> None:
        self.used = time.monotonic()
        self.is_closing = False
        # Whether it has asked for /metrics, and whether it has had it since the last worker ended.
        self.is_scraper = False
        self.has_final_counts = False


class MetricsServer(ThreadingHTTPServer):
    """Serves the pages from threads of this process. Raises OSError if the port is taken."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, settings: Settings, pages: Pages) -> None:
        self.address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        self.pages = pages
        self._connections: dict[socket.socket, Connection] = {}
        self._lock = threading.Lock()
        self._is_final = False
        super().__init__((settings.host, settings.metrics_port), _Handler)
        # A client that is gone before it is accepted must not block whoever holds the lock.
        self.socket.setblocking(False)  # noqa: FBT003

    def start(self) -> None:
        """Serve until the process ends. Called once in a process."""
        # A lock that a thread holds during a fork would never be released in the worker.
        for lock in (files_lock, self._lock):
            os.register_at_fork(
                before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release
            )
        threading.Thread(target=self.serve_forever, name="metrics", daemon=True).start()

    def close_inherited(self) -> None:
        """Close a worker's copies of all sockets, or it would keep port and connections open."""
        for each in (self.socket, *self._connections):
            os.close(each.detach())
        self._connections.clear()

    def wait_for_last_scrape(self, seconds: float, is_interrupted: Callable[[], bool]) -> None:
        """Wait until every scraper that is connected has the final counts, or some time.

        Called when the last worker has ended: what it counted since its last scrape would be lost.
        """
        with self._lock:
            self._is_final = True
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._is_awaited() and not is_interrupted():
            time.sleep(_CHECK_SECONDS)

    def _is_awaited(self) -> bool:
        with self._lock:
            return any(
                each.is_scraper and not each.has_final_counts for each in self._connections.values()
            )

    def begin(self, request: socket.socket) -> bool:
        """Note that a scrape began; return whether it will have the final counts."""
        with self._lock:
            if connection := self._connections.get(request):
                connection.used = time.monotonic()
                connection.is_scraper = True
            return self._is_final

    def end(self, request: socket.socket, *, is_final: bool) -> None:
        """Note that a scrape was answered."""
        with self._lock:
            if connection := self._connections.get(request):
                connection.has_final_counts |= is_final

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection, and close another one if there are too many. Raises OSError."""
        try:
            return self._accept()
        except BlockingIOError:
            raise
        except OSError:
            # Of descriptors or memory there will be none at once; do not keep a processor busy.
            time.sleep(_CHECK_SECONDS)
            raise

    def _accept(self) -> tuple[socket.socket, Any]:
        with self._lock:
            request, address = self.socket.accept()
            request.setblocking(True)  # noqa: FBT003
            self._connections[request] = Connection()
            self._close_idlest()
        return request, address

    def _close_idlest(self) -> None:
        """Close the connection that was idle longest, if there are too many."""
        open_ = {sock: each for sock, each in self._connections.items() if not each.is_closing}
        if len(open_) > MAX_CONNECTIONS:
            idlest = min(open_, key=lambda each: open_[each].used)
            open_[idlest].is_closing = True
            # Its thread reads the end, and closes it.
            with contextlib.suppress(OSError):
                idlest.shutdown(socket.SHUT_RDWR)

    def close_request(self, request: Any) -> None:  # noqa: ANN401 as in the base class
        """Forget a connection, and close it."""
        with self._lock:
            self._connections.pop(request, None)
            super().close_request(request)

    def handle_error(self, *_: object) -> None:
        """Log in one line that a scrape failed or was cut off."""
        log.warning("a scrape was not answered: %s", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    # The head of an answer is sent before its content, which must not wait to be acknowledged.
    disable_nagle_algorithm = True
    server: MetricsServer

    def do_GET(self) -> None:
        match urlsplit(self.path).path:
            case "/metrics":
                self._send_metrics()
            case "/":
                self._send(self.server.pages.index(self.headers.get("Host", "")))
            case _:
                self.send_error(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815 http.server's names

    def _send_metrics(self) -> None:
        is_final = self.server.begin(self.connection)
        try:
            page = self.server.pages.render(self.headers.get("Accept", ""))
        except MissingFileError as error:
            log.error("a scrape failed: %s", error)  # noqa: TRY400 the traceback says no more
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR, explain=str(error))
        else:
            self._send(page)
            self.server.end(self.connection, is_final=is_final)

    def _send(self, page: Page) -> None:
        content = page.content
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", page.content_type)
        if accepts_gzip(self.headers.get("Accept-Encoding", "")):
            self.send_header("Content-Encoding", "gzip")
            content = gzip.compress(content, compresslevel=1)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer that does not say what serves."""
        self.send_response_only(code, message)
        self.send_header("Date", self.date_time_string())

    def log_message(self, *_: object) -> None:
        """Do not log scrapes."""


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether an `Accept-Encoding` header accepts gzip; `gzip;q=0` does not."""
    for coding in accept_encoding.lower().split(","):
        name, *parameters = (part.strip() for part in coding.split(";"))
        if name == "gzip":
            return not any(_is_zero_quality(each) for each in parameters)
    return False


def _is_zero_quality(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return name.strip() == "q" and value.strip().rstrip("0") in ("", ".", "0.")
