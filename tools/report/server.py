"""Serve the latest report on this machine: rendered when somebody asks, once a minute at most."""

import html
import logging
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tools.report.errors import ReportError

_FRESH_SECONDS = 55.0
_LOG = logging.getLogger("report")


class Latest:
    """The latest report; while Prometheus does not answer, the reason."""

    def __init__(self, render: Callable[[], str], file: Path) -> None:
        self._render = render
        self._file = file
        self._lock = threading.Lock()
        self._made = float("-inf")
        self._html = ""

    def page(self) -> str:
        """Return the page, rendered again where it is old; raise ReportError where that fails."""
        with self._lock:
            if time.monotonic() - self._made > _FRESH_SECONDS:
                self._html = self._render()
                self._made = time.monotonic()
                self._keep()
            return self._html

    def _keep(self) -> None:
        """Write the page to a file as well, for a mail; a full disk takes nothing else away."""
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(self._html, "utf-8")
        except OSError as error:
            _LOG.warning("%s cannot be written: %s", self._file, error.strerror)


def server(address: tuple[str, int], latest: Latest) -> ThreadingHTTPServer:
    """Return a server of the latest report; /healthz answers without asking Prometheus."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                self._answer(HTTPStatus.OK, "text/plain", "ok\n")
            elif path == "/":
                self._report()
            else:
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", "the report is at /\n")

        def _report(self) -> None:
            try:
                self._answer(HTTPStatus.OK, "text/html", latest.page())
            except ReportError as error:
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/html", _excuse(str(error)))

        def _answer(self, status: HTTPStatus, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", f"{kind}; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its name there)
            if not self.path.startswith("/healthz"):
                _LOG.info(format, *args)

    return ThreadingHTTPServer(address, Handler)


def _excuse(reason: str) -> str:
    """Return a page that says why there is no report, and tries again."""
    return (
        '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="10">'
        f"<title>No report</title><p>No report: {html.escape(reason)}</p>"
    )
