"""The end of a publisher in the model's pod: it waits for the model, then for the last event."""

import socket
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from publisher.drain import drain
from tests.support.machine import free_port
from tests.support.servers import serving


class Publisher(ThreadingHTTPServer):
    """A metrics server whose backlog decreases by one event at each scrape."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Metrics)
        self.backlog = 3
        self.stopped = False

    @property
    def url(self) -> str:
        """Return the URL of the metrics."""
        return f"http://127.0.0.1:{self.server_port}/metrics"


class _Metrics(BaseHTTPRequestHandler):
    server: Publisher

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        family = "publisher_backlog_events"
        stopped = f'publisher_stopped{{reason="denied"}} {float(self.server.stopped)}'
        text = f"# TYPE {family} gauge\n{family} {self.server.backlog}.0\n{stopped}\n"
        self.wfile.write(text.encode())
        self.server.backlog -= 1

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="publisher")
def _publisher() -> Iterator[Publisher]:
    with serving(Publisher()) as server:
        yield server


def test_the_hook_waits_for_the_model_and_the_last_event(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The backlog is scraped only after the model has stopped, and until it is empty."""
    scraped_while_serving = []
    with socket.create_server(("127.0.0.1", 0)) as model:
        address = model.getsockname()

        def sleep(_: float) -> None:
            if model.fileno() != -1:
                scraped_while_serving.append(publisher.backlog < 3)
                model.close()

        monkeypatch.setattr(time, "sleep", sleep)
        drain(address, publisher.url, pause=0.5)

    assert scraped_while_serving == [False]
    assert publisher.backlog == -1  # scraped at 3, 2, 1 and 0


def test_the_hook_does_not_wait_for_a_publisher_that_has_stopped(publisher: Publisher) -> None:
    """Its next try comes after the grace period, so waiting would only delay the termination."""
    publisher.stopped = True

    drain(("127.0.0.1", free_port()), publisher.url, pause=60, last_scrape=0)

    assert publisher.backlog == 2  # scraped once


def test_the_hook_does_not_wait_for_a_publisher_that_is_gone() -> None:
    """The hook returns if the publisher's metrics are unreachable."""
    drain(("127.0.0.1", free_port()), f"http://127.0.0.1:{free_port()}/metrics", pause=0.5)
