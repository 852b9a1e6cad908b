"""Invalid requests get a clear 4xx that names field and reason and are counted; none gets a 5xx."""

import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.example import Row
from tests.support.model import Model, Samples, select, total
from tests.support.wait import eventually

TEN_MEGABYTES = 10_000_000
CHUNK = b" " * 65_536
HEADERS = {"Content-Type": "application/json"}

Faults = Counter[tuple[str, str]]


@pytest.fixture(name="good", scope="module")
def _good(held_out_inputs: list[Row]) -> Row:
    return held_out_inputs[0]


def faults(before: Samples, after: Samples) -> Faults:
    """Return the rejections that were counted between two scrapes."""
    name = "model_input_rejected_total"
    counted: Faults = Counter()
    for labels, value in select(after, name).items():
        of = dict(labels)
        if value > before[name, labels]:
            counted[of["field"], of["reason"]] = int(value - before[name, labels])
    return counted


def requests(samples: Samples, status: str) -> float:
    """Return the number of requests with a class of status."""
    found = select(samples, "http_requests_total", status=status)
    return sum(found.values())


def send_invalid(
    model: Model, body: bytes, path: str = "/predict"
) -> tuple[httpx.Response, Faults]:
    """Send a body that must be rejected; return the answer and the counted faults."""
    before = model.scrape()
    response = httpx.post(f"{model.url}{path}", content=body, headers=HEADERS, timeout=30)
    after = model.scrape()

    assert requests(after, "4xx") - requests(before, "4xx") == 1
    assert requests(after, "2xx") == requests(before, "2xx")
    assert requests(after, "5xx") == 0
    assert total(after, "model_predictions_total") == total(before, "model_predictions_total")
    return response, faults(before, after)


def with_token(row: Row, field: str, token: str) -> bytes:
    """Return a row as JSON with an arbitrary text in place of one value."""
    others = json.dumps({name: value for name, value in row.items() if name != field})
    return f'{others[:-1]}, "{field}": {token}}}'.encode()


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ('"blue"', "type"),
        ('"3.5"', "type"),
        ("true", "type"),
        ("[]", "type"),
        ("{}", "type"),
        ("null", "missing"),
        ("NaN", "not_finite"),
        ("Infinity", "not_finite"),
        ("-Infinity", "not_finite"),
        ("1e999", "not_finite"),
        ("-0.1", "below"),
        ("14.1", "above"),
        ("1e308", "above"),
    ],
)
def test_an_invalid_value_is_rejected(model: Model, good: Row, token: str, reason: str) -> None:
    """The answer is 422 with the field and a message, for a single row and a row of a batch."""
    body = with_token(good, "ph", token)
    batch = b'{"instances": [' + json.dumps(good).encode() + b"," + body + b"]}"
    for path, content, where in (
        ("/predict", body, ["body", "ph"]),
        ("/predict/batch", batch, ["body", "instances", 1, "ph"]),
    ):
        response, counted = send_invalid(model, content, path)

        assert response.status_code == 422
        (detail,) = response.json()["detail"]
        assert detail["loc"] == where
        assert detail["msg"]
        assert counted == {("ph", reason): 1}


def test_missing_fields_are_named(model: Model, good: Row) -> None:
    """The answer names each of them."""
    row = {name: value for name, value in good.items() if name not in {"ph", "density"}}
    response, counted = send_invalid(model, json.dumps(row).encode())

    assert response.status_code == 422
    assert {each["loc"][-1] for each in response.json()["detail"]} == {"ph", "density"}
    assert counted == {("ph", "missing"): 1, ("density", "missing"): 1}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"  \r\n", "empty"),
        (b"{", "malformed"),
        (b"not JSON", "malformed"),
        (b"\xff\xfe\x00", "malformed"),
        (b'{"ph": "\\ud800"}', "malformed"),
        (b"[" * 100_000, "malformed"),
        (b"[]", "type"),
        (b"null", "type"),
        (b'"text"', "type"),
    ],
    ids=lambda value: repr(value)[:25],
)
def test_a_body_that_is_no_object_is_rejected(
    model: Model, path: str, body: bytes, reason: str
) -> None:
    """The answer is 422, and a fault of the body is counted."""
    response, counted = send_invalid(model, body, path)

    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"][0] == "body"
    assert counted == {("_body", reason): 1}


@pytest.mark.parametrize(
    ("rows", "reason"), [(0, "empty"), (1001, "too_many")], ids=["none", "too many"]
)
def test_a_batch_of_the_wrong_size_is_rejected(
    model: Model, good: Row, rows: int, reason: str
) -> None:
    """The answer is 422, and a fault of the body is counted."""
    body = json.dumps({"instances": [good] * rows}).encode()
    response, counted = send_invalid(model, body, "/predict/batch")

    assert response.status_code == 422
    assert counted == {("_body", reason): 1}


@pytest.mark.parametrize("path", ["/predict", "/predict/batch", "/feedback"])
@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_ten_megabytes_are_rejected(model: Model, path: str, announced: bool) -> None:  # noqa: FBT001
    """The answer is 413, with and without a Content-Length; the service reads up to the limit."""

    def chunks() -> Iterator[bytes]:
        for _ in range(0, TEN_MEGABYTES, len(CHUNK)):
            yield CHUNK

    before = model.scrape()
    content: Any = CHUNK * (TEN_MEGABYTES // len(CHUNK)) if announced else chunks()
    response = httpx.post(f"{model.url}{path}", content=content, headers=HEADERS, timeout=60)
    after = model.scrape()

    assert response.status_code == 413
    assert "2000000 bytes" in response.json()["detail"][0]["msg"]
    rejected = "model_feedback_rejected_total"
    if path == "/feedback":
        assert total(after, rejected) - total(before, rejected) == 1
    else:
        assert faults(before, after) == {("_body", "too_large"): 1}
    assert requests(after, "4xx") - requests(before, "4xx") == 1
    assert requests(after, "5xx") == 0


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
def test_a_wrong_method_is_rejected(model: Model, method: str) -> None:
    """The answer is 405 with the right method in Allow, and is counted."""
    before = model.scrape()
    response = httpx.request(method, f"{model.url}/predict")
    after = model.scrape()

    assert response.status_code == 405
    assert response.headers["allow"] == "POST"
    assert requests(after, "4xx") - requests(before, "4xx") == 1


def test_an_unknown_route_is_rejected(model: Model) -> None:
    """The answer is 404, and is counted."""
    before = model.scrape()
    response = httpx.post(f"{model.url}/predictions", json={})
    after = model.scrape()

    assert response.status_code == 404
    assert requests(after, "4xx") - requests(before, "4xx") == 1


@pytest.mark.parametrize("path", ["/predict", "/predict/batch"])
@pytest.mark.parametrize("part", [b"", b'{"ph": 3'], ids=["before the body", "within the body"])
def test_a_client_that_disconnects_is_no_server_error(model: Model, path: str, part: bytes) -> None:
    """The request is counted as 4xx, and none remains in progress."""
    before = model.scrape()
    with model.connect() as connection:
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
        connection.sendall(head.encode() + part)

    def counted() -> bool:
        return requests(model.scrape(), "4xx") - requests(before, "4xx") == 1

    eventually(counted, "the lost request is counted")
    after = model.scrape()
    assert requests(after, "5xx") == 0
    assert total(after, "http_requests_inprogress") == 0
    assert faults(before, after) == {}


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\nnonsense\r\n\r\n",
        b"POST /predict HTTP/9.9\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: abc\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["nonsense", "version", "no length", "negative", "huge length", "bad chunk"],
)
def test_invalid_http_is_rejected(model: Model, request_: bytes) -> None:
    """The answer is 400 or none, and the worker continues to serve."""
    with model.connect() as connection:
        connection.sendall(request_)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))

    assert answer[:12] in {b"", b"HTTP/1.1 400"}
    assert httpx.get(f"{model.url}/healthz").status_code == 200
    assert requests(model.scrape(), "5xx") == 0


def test_every_worker_has_survived(model: Model) -> None:
    """After the tests above no worker has died or logged an error."""
    log = model.program.output()

    assert len(model.pids()) == model.workers
    assert "Traceback" not in log
    assert '"level": "ERROR"' not in log
