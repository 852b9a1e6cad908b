"""`POST /predict` gives the same bytes on the fast path as through FastAPI's route."""

import json
import random
import re
import socket
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bundle.manifest import Manifest
from tests.service.conftest import StartModel
from tests.support.model import Model, Samples

MAX_BODY_BYTES = 5_000
MUTATIONS = 3_000
# Parts of an answer that differ between requests: the date and the id.
VOLATILE = (
    (re.compile(rb"\r\ndate: [^\r]+"), b"\r\ndate: ..."),
    (re.compile(rb'"prediction_id":"([^"]+)"'), rb'"prediction_id":"..."'),
)
# Families that measure time or the process, which differ between services; repeats, which each
# service counts once a second; and the request size, which FastAPI's route reads from the
# Content-Length, which chunked requests lack.
INCOMPARABLE = re.compile(
    "_seconds(_bucket|_sum)?$|^model_inference|^model_feature_repeats|^http_request_size_bytes_sum$"
    "|^service_process_|^service_event_loop_lag"
)


@dataclass(frozen=True)
class Case:
    """The bytes of one request, sent in parts, and whether they make the server close."""

    parts: tuple[bytes, ...]
    closes: bool = False


@pytest.fixture(name="models", scope="module")
def _models(start_model: StartModel) -> Iterator[tuple[Model, Model]]:
    settings = {"MODEL_WORKERS": "1", "MODEL_MAX_BODY_BYTES": str(MAX_BODY_BYTES)}
    with (
        start_model(MODEL_FAST_PATH="true", **settings) as fast,
        start_model(MODEL_FAST_PATH="false", **settings) as slow,
    ):
        yield fast, slow


@pytest.fixture(name="good", scope="module")
def _good(example: Manifest) -> bytes:
    return json.dumps({each.name: each.example for each in example.features}).encode()


def request(body: bytes, *headers: str, version: str = "1.1", length: int | None = None) -> bytes:
    """Return a request's bytes; a `length` of -1 omits its header."""
    size = len(body) if length is None else length
    lines = [f"POST /predict HTTP/{version}", "Host: model", *headers]
    if size >= 0:
        lines.append(f"Content-Length: {size}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes, size: int) -> bytes:
    """Return a request whose body comes in chunks."""
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
    head = request(b"", "Transfer-Encoding: chunked", length=-1)
    return head + chunks + b"0\r\n\r\n"


def cut(data: bytes, rng: random.Random) -> tuple[bytes, ...]:
    """Return the same bytes in up to four parts."""
    places = sorted(rng.sample(range(1, len(data)), k=rng.randrange(4)))
    return tuple(data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True))


def corpus(good: bytes) -> Iterator[Case]:
    """Yield requests of every kind: well formed, rejected, and damaged at random."""
    rng = random.Random(7)  # noqa: S311 the same corpus each time
    for body in bodies(good):
        yield Case((request(body),))
        yield Case(cut(request(body), rng))
        yield Case((chunked(body, rng.randint(1, 60)),))
    h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk"
    for header in (
        h2c,
        "Content-Type: text/plain",
        "X-A: " + "b" * 3_000,
        "Accept: application/xml",
    ):
        yield Case((request(good, header),))
    for closing in (
        request(good, "Connection: close"),
        request(b"{}", "Connection: close"),
        request(good, version="1.0"),
        request(good, "Connection: keep-alive", version="1.0"),
    ):
        yield Case((closing,), closes=True)
    for _ in range(MUTATIONS):
        yield Case(cut(request(mutated(good, rng)), rng))


def bodies(good: bytes) -> Iterator[bytes]:
    """Yield a valid body, invalid ones, and every field with values that it does not allow."""
    yield from (good, b"", b" ", b"null", b"[" + good + b"]", b"[" * 4_000, b"\xff", good[:-1])
    yield from (good + b"x", b"\xef\xbb\xbf" + good)
    yield from (b" " * MAX_BODY_BYTES, b" " * (MAX_BODY_BYTES + 1))
    row = json.loads(good)
    for name in row:
        for literal in ("null", "true", '"7"', "-1e9", "1e9", "[]", "{}", "1e-320", "NaN", "1e999"):
            yield re.sub(rf'"{name}": [^,}}]+'.encode(), f'"{name}": {literal}'.encode(), good)
        yield good.replace(f'"{name}"'.encode(), b'"undeclared"')
        yield json.dumps(row | {"undeclared": 1}).encode()


def mutated(body: bytes, rng: random.Random) -> bytes:
    """Return a body with some bytes changed, removed or repeated."""
    changed = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(changed))
        match rng.randrange(3):
            case 0:
                changed[place] = rng.choice(b'0123456789.,:{}[]"-+eE xtfn\x00\x80')
            case 1:
                del changed[place : place + rng.randint(1, 4)]
            case _:
                changed[place:place] = changed[place : place + rng.randint(1, 8)]
        if not changed:
            return b""
    return bytes(changed)


class Connection:
    """A connection that is opened again after its server has closed it."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._open()

    def _open(self) -> None:
        self._socket = self._model.connect()
        # Otherwise the second part of a request waits for the acknowledgement of the first.
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream = self._socket.makefile("rb")

    def close(self) -> None:
        """Close the connection."""
        self._stream.close()
        self._socket.close()

    def ask(self, case: Case) -> bytes:
        """Return an answer's bytes."""
        for part in case.parts:
            self._socket.sendall(part)
        answer = self._read()
        closes = b"\r\nconnection: close\r\n" in answer
        assert closes == (case.closes or answer.startswith(b"HTTP/1.1 413")), case
        if closes:
            assert self._stream.read() == b""
            self.close()
            self._open()
        return answer

    def _read(self) -> bytes:
        head = b"".join(iter(self._stream.readline, b"\r\n"))
        length = re.search(rb"content-length: (\d+)", head)
        assert length, head
        return head + b"\r\n" + self._stream.read(int(length[1]))


def comparable(answer: bytes) -> bytes:
    """Return an answer without its date and id."""
    for pattern, replacement in VOLATILE:
        answer = pattern.sub(replacement, answer)
    return answer


def comparable_samples(samples: Samples) -> Samples:
    """Return the samples that depend only on the requests."""
    return {key: value for key, value in samples.items() if not INCOMPARABLE.search(key[0])}


def test_both_paths_give_the_same_bytes_and_the_same_counts(
    models: tuple[Model, Model], good: bytes
) -> None:
    """Every answer is equal from the status line on, and then every counter is equal."""
    fast, slow = map(Connection, models)
    statuses: Counter[bytes] = Counter()
    for case in corpus(good):
        one, other = fast.ask(case), slow.ask(case)
        assert comparable(one) == comparable(other), case
        statuses[one.split()[1]] += 1
    fast.close()
    slow.close()

    assert statuses.keys() == {b"200", b"413", b"422"}
    assert statuses.total() > MUTATIONS
    assert comparable_samples(models[0].scrape()) == comparable_samples(models[1].scrape())
