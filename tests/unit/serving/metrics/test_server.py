"""The metrics port: who gets what, how many at once, and who is waited for."""

import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from serving.metrics.processes import ProcessCollector
from serving.metrics.server import MAX_CONNECTIONS, MetricsServer, Pages, accepts_gzip
from serving.metrics.slots import Layout
from serving.settings import Settings
from tests.support.bundles import make_manifest
from tests.support.machine import free_port
from tests.support.model import parse
from tests.support.servers import serving
from tests.support.wait import eventually

Connect = Callable[[MetricsServer], HTTPConnection]


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[MetricsServer]:
    settings = Settings(bundle=tmp_path, metrics_dir=tmp_path, metrics_port=free_port())
    pages = Pages(settings, list, ProcessCollector(dict))
    pages.show(make_manifest(), "today")
    with serving(MetricsServer(settings, pages)) as server:
        yield server


@pytest.fixture(name="connect")
def _connect() -> Iterator[Connect]:
    """Return a function that opens a connection to a server, until the test ends."""
    with ExitStack() as stack:

        def connect(server: MetricsServer) -> HTTPConnection:
            connection = HTTPConnection("127.0.0.1", server.server_port, timeout=30)
            return stack.enter_context(closing(connection))

        yield connect


def scrape(connection: HTTPConnection, **headers: str) -> tuple[dict[str, str], bytes]:
    """Return the headers and the content of a scrape."""
    connection.request("GET", "/metrics", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    return dict(answer.getheaders()), answer.read()


def test_nothing_tells_what_serves(server: MetricsServer, connect: Connect) -> None:
    """Neither the answer to a scrape nor an error has a Server header."""
    connection = connect(server)
    headers, _ = scrape(connection)
    assert {name.lower() for name in headers} == {"content-type", "content-length", "date"}

    for method, path in (("GET", "/nowhere"), ("BREW", "/metrics")):
        connection = connect(server)
        connection.request(method, path)
        answer = connection.getresponse()
        assert answer.status >= 400
        assert answer.getheader("Server") is None
        assert "python" not in answer.read().decode().lower()


def test_a_page_does_not_wait_for_the_clients_acknowledgement(
    server: MetricsServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its head is sent first; on a connection that is kept, TCP would delay the rest by 40 ms."""
    options: list[int] = []

    def begin(request: socket.socket) -> bool:
        options.append(request.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return False

    monkeypatch.setattr(server, "begin", begin)
    scrape(connect(server))

    assert options
    assert 0 not in options


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip ; q=0.000", False),
        ("identity", False),
        ("", False),
    ],
)
def test_gzip_is_what_the_client_accepts(
    server: MetricsServer, connect: Connect, header: str, *, accepted: bool
) -> None:
    """A quality of 0 means no."""
    headers, content = scrape(connect(server), **{"Accept-Encoding": header})

    assert accepts_gzip(header) == accepted
    assert (headers.get("Content-Encoding") == "gzip") == accepted
    page = gzip.decompress(content) if accepted else content
    assert "model_info" in {name for name, _ in parse(page.decode())}


def test_more_connections_than_allowed_close_the_idlest(
    server: MetricsServer, connect: Connect
) -> None:
    """Those who hold connections open cannot keep a scraper out; there are so many threads."""
    scraper = connect(server)
    with ExitStack() as stack:
        address = ("127.0.0.1", server.server_port)
        held = [
            stack.enter_context(socket.create_connection(address, timeout=30))
            for _ in range(5 * MAX_CONNECTIONS)
        ]
        scrape(scraper)
        eventually(
            lambda: threading.active_count() <= MAX_CONNECTIONS + 5, "threads of the others end"
        )

        assert held[0].recv(1) == b""
        scrape(scraper)


def test_the_end_waits_for_each_scraper_once(server: MetricsServer, connect: Connect) -> None:
    """For one that has scraped, until it has what was counted last; for nobody else."""
    scraper, reader = connect(server), connect(server)
    scrape(scraper)
    reader.request("GET", "/")
    reader.getresponse().read()
    waiting = threading.Thread(target=server.wait_for_last_scrape, args=(60, lambda: False))
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()

    scrape(scraper)
    waiting.join(30)
    assert not waiting.is_alive()


@pytest.mark.parametrize("end", ["gone", "interrupted", "late"])
def test_the_end_waits_neither_for_ever_nor_for_nobody(
    server: MetricsServer, connect: Connect, end: str
) -> None:
    """A scraper that closes its connection, a second signal, or the time limit ends the wait."""
    scraper = connect(server)
    scrape(scraper)
    if end == "gone":
        scraper.close()
    server.wait_for_last_scrape(0 if end == "late" else 1e9, lambda: end == "interrupted")


def test_a_missing_file_of_a_live_worker_is_an_error(tmp_path: Path, connect: Connect) -> None:
    """Whether it was never there or is gone; the name of the file is in the answer."""
    alive: list[int] = []
    settings = Settings(bundle=tmp_path, metrics_dir=tmp_path, metrics_port=free_port())
    pages = Pages(settings, lambda: alive, ProcessCollector(dict))
    pages.show(make_manifest(), "today")
    layout = Layout("counter")
    layout.counter("things", "Things.", {})
    for name in ("one", "other"):
        layout.create(tmp_path, name)
        (own,) = tmp_path.glob(f"counter_{name}_*.db")
        own.rename(tmp_path / f"counter_{name}_7.db")
    with serving(MetricsServer(settings, pages)) as server:
        alive[:] = [7]
        scrape(connect(server))
        (tmp_path / "counter_other_7.db").unlink()
        for pids, name in (([7], "counter_other_7.db"), ([7, 8], "*_8.db")):
            alive[:] = pids
            connection = connect(server)
            connection.request("GET", "/metrics")
            answer = connection.getresponse()

            assert answer.status == 500
            assert name in answer.read().decode()
        alive.clear()
        scrape(connect(server))
