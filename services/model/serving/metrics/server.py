"""/metrics on its own port, served by gunicorn's master: a scrape never holds up a prediction."""

import gzip
import logging
import os
import socket
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest

from bundle.load import load_manifest, trained_at
from serving.metrics.archive import files_lock
from serving.metrics.bundle_facts import FactsCollector
from serving.metrics.exposition import Exposition
from serving.settings import Settings

log = logging.getLogger(__name__)


def start_metrics_server(settings: Settings) -> None:
    """Serve /metrics from a thread of this process. Raises OSError: the port is taken."""
    # What a scrape's thread holds when a worker is forked, no thread of the worker ever releases.
    os.register_at_fork(
        before=files_lock.acquire,
        after_in_parent=files_lock.release,
        after_in_child=files_lock.release,
    )
    registry = CollectorRegistry()
    registry.register(FactsCollector(load_manifest(settings.bundle), trained_at(settings.bundle)))
    facts = generate_latest(registry)
    exposition = Exposition(settings.metrics_dir)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Seconds without a request after which a connection is closed: four missed scrapes.
        timeout = 60

        def do_GET(self) -> None:
            if urlsplit(self.path).path != "/metrics":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            with files_lock:
                workers = exposition.text()
            self._answer(workers.encode() + facts)

        def _answer(self, page: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
            if "gzip" in self.headers.get("Accept-Encoding", ""):
                self.send_header("Content-Encoding", "gzip")
                page = gzip.compress(page, compresslevel=1)
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            """Log no scrape."""

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """Say in one line that a scrape was cut off, or failed."""
            log.warning("a scrape was not answered: %s", sys.exception())

    server = Server((settings.host, settings.metrics_port), Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
