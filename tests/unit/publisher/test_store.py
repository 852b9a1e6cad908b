"""What the publisher makes of the answers of an object store."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest

from publisher.errors import StoppedError, TransientError
from publisher.layout import open_root
from publisher.store import Store, explained
from tests.support.machine import free_port
from tests.support.servers import serving

ROOT = "s3://bucket/log"


class _Answering(ThreadingHTTPServer):
    """Answers every request with a status and a body."""

    def __init__(self, status: int, body: str) -> None:
        self.answer = status, body.encode()
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Answering

    def do_PUT(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(name="store_at")
def _store_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def write(port: int) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        store = Store(*open_root(ROOT))
        with explained(ROOT):
            store.write("x.parquet", pa.table({"a": [1]}))

    return write


def xml(code: str) -> str:
    """Return an error of S3."""
    return f"<Error><Code>{code}</Code><Message>line\none</Message></Error>"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, xml("AccessDenied"), "denied"),
        (403, xml("SignatureDoesNotMatch"), "denied"),
        (403, "<html>the proxy rejects this</html>", "denied"),
        (401, "", "denied"),
        (400, xml("ExpiredToken"), "denied"),
        (404, xml("NoSuchBucket"), "not_found"),
        (404, "", "not_found"),
    ],
)
def test_a_wrong_configuration_stops_the_log(
    store_at: Callable[[int], None], status: int, body: str, reason: str
) -> None:
    """One line says what the object store has answered; trying at once would not help."""
    with (
        serving(_Answering(status, body)) as server,
        pytest.raises(StoppedError, match=r"^PREDICTION_LOG: s3://bucket/log: .*$") as stopped,
    ):
        store_at(server.server_port)

    assert stopped.value.reason == reason
    assert len(str(stopped.value).splitlines()) == 1


@pytest.mark.parametrize(("status", "body"), [(500, ""), (503, xml("SlowDown"))])
def test_an_object_store_in_trouble_is_tried_again(
    store_at: Callable[[int], None], status: int, body: str
) -> None:
    """What fails on the other side passes by itself."""
    with serving(_Answering(status, body)) as server, pytest.raises(TransientError) as failed:
        store_at(server.server_port)

    assert failed.value.cause == "storage"


def test_an_object_store_that_is_down_is_tried_again(
    store_at: Callable[[int], None],
) -> None:
    """Nobody listens at the port."""
    with pytest.raises(TransientError) as failed:
        store_at(free_port())

    assert failed.value.cause == "connection"
