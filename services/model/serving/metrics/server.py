"""The metrics port, served by gunicorn's master: a scrape never delays a prediction.

`/metrics` is for Prometheus; `/` links to it and to the other services, for people.
"""

import gzip
import logging
import os
import socket
import sys
import threading
import time
from functools import lru_cache
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from bundle.load import load_manifest, trained_at
from serving.metrics import index
from serving.metrics.archive import files_lock
from serving.metrics.bundle_facts import FactsCollector
from serving.metrics.exposition import Exposition
from serving.settings import Settings

_OPENMETRICS = "application/openmetrics-text"
# An idle connection is closed after four missed scrapes.
_IDLE_SECONDS = 60

log = logging.getLogger(__name__)


class Page(NamedTuple):
    """What is served: its content type and its bytes."""

    content_type: str
    content: bytes


class Pages:
    """Renders the index, and /metrics in the format that a scraper asks for."""

    def __init__(self, settings: Settings) -> None:
        self._registry = CollectorRegistry()
        self._manifest = load_manifest(settings.bundle)
        self._api_port = settings.port
        facts = FactsCollector(self._manifest, trained_at(settings.bundle), time.time())
        self._registry.register(facts)
        self._exposition = Exposition(settings.metrics_dir)
        # A few, so that made-up headers do not fill the memory.
        self._facts = lru_cache(maxsize=8)(self._render_facts)

    def render(self, accept: str) -> Page:
        """Return the page for an `Accept` header, by content negotiation as prometheus_client's."""
        facts = self._facts(accept)
        openmetrics = facts.content_type.startswith(_OPENMETRICS)
        with files_lock:
            workers = self._exposition.text(openmetrics=openmetrics)
        return Page(facts.content_type, workers.encode() + facts.content)

    def index(self, host: str) -> Page:
        """Return the page for a `Host` header that links to what runs."""
        content = index.render(self._manifest, host, self._api_port, os.environ)
        return Page("text/html; charset=utf-8", content)

    def _render_facts(self, accept: str) -> Page:
        # Of OpenMetrics, this part ends with the format's last line.
        encode, content_type = choose_encoder(accept)
        return Page(content_type, encode(self._registry))


def start_metrics_server(settings: Settings) -> None:
    """Serve /metrics from a thread of this process. Raises OSError if the port is taken."""
    # A lock that a scrape's thread holds during a fork would never be released in the worker.
    os.register_at_fork(
        before=files_lock.acquire,
        after_in_parent=files_lock.release,
        after_in_child=files_lock.release,
    )
    pages = Pages(settings)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = _IDLE_SECONDS

        def do_GET(self) -> None:
            match urlsplit(self.path).path:
                case "/metrics":
                    self._send(pages.render(self.headers.get("Accept", "")))
                case "/":
                    self._send(pages.index(self.headers.get("Host", "")))
                case _:
                    self.send_error(HTTPStatus.NOT_FOUND)

        do_HEAD = do_GET  # noqa: N815 http.server's names

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

        def log_message(self, *_: object) -> None:
            """Do not log scrapes."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Log in one line that a scrape failed or was cut off."""
            log.warning("a scrape was not answered: %s", sys.exception())

    server = Server((settings.host, settings.metrics_port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()


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
