"""Stands in for Grafana, which no package registry has: notes how it was started, and answers."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    """200 to every GET, without a line in the log."""

    def do_GET(self) -> None:
        """Answer with an empty body: to Prometheus, a target without series."""
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


def main() -> None:
    """Write arguments and GF_… to $GF_PATHS_DATA/started.json, then serve."""
    settings = {key: value for key, value in os.environ.items() if key.startswith("GF_")}
    given = {"arguments": sys.argv[1:], "settings": settings, "url": os.environ["PROMETHEUS_URL"]}
    Path(os.environ["GF_PATHS_DATA"], "started.json").write_text(json.dumps(given))
    address = (os.environ["GF_SERVER_HTTP_ADDR"], int(os.environ["GF_SERVER_HTTP_PORT"]))
    HTTPServer(address, Answer).serve_forever()


if __name__ == "__main__":
    main()
