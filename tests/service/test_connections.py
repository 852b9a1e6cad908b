"""One connection: requests are answered in order, however they are cut, sent ahead or read late."""

import json
import socket
import threading
from http.client import parse_headers
from io import BufferedReader
from typing import cast
from urllib.parse import urlsplit

import pytest

from tests.service.conftest import StartModel
from tests.support.model import Model, total
from tests.support.wait import eventually
from wine_quality.data import Row

AHEAD = 2_000
# What the fast path answers, and what it leaves to the framework.
TARGETS = ("/predict", "/predict", "/predict?again", "/predictions", "/predict")


def connect(model: Model) -> socket.socket:
    """Return a connection to the API."""
    address = urlsplit(model.url)
    assert address.hostname
    return socket.create_connection((address.hostname, address.port or 80), timeout=60)


def request(row: Row, target: str = "/predict") -> bytes:
    """Return a request's bytes."""
    body = json.dumps(row).encode()
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def answer(stream: BufferedReader) -> tuple[int, bytes]:
    """Return status and body of the next answer."""
    status = int(stream.readline().split()[1])
    return status, stream.read(int(parse_headers(stream)["content-length"]))


def test_requests_sent_ahead_are_answered_in_order(
    start_model: StartModel, red_inputs: list[Row]
) -> None:
    """Thousands, read only when all are sent; all are answered rightly, and counted once."""
    inputs = [red_inputs[i % len(red_inputs)] for i in range(AHEAD)]
    targets = [TARGETS[i % len(TARGETS)] for i in range(AHEAD)]
    sent = b"".join(request(*each) for each in zip(inputs, targets, strict=True))
    with start_model(MODEL_WORKERS="1") as model, connect(model) as alone:
        stream = alone.makefile("rb")
        expected = []
        for row in red_inputs:
            alone.sendall(request(row))
            expected.append(json.loads(answer(stream)[1])["quality"])

        with connect(model) as ahead:
            sender = threading.Thread(target=ahead.sendall, args=(sent,))
            sender.start()
            stream = ahead.makefile("rb")
            for i, target in enumerate(targets):
                status, body = answer(stream)
                if target == "/predictions":
                    assert status == 404
                else:
                    assert status == 200
                    assert json.loads(body)["quality"] == expected[i % len(expected)]
            sender.join(60)

        predicted = sum(target != "/predictions" for target in targets) + len(expected)
        eventually(
            lambda: total(model.scrape(), "http_requests_total", handler="/predict") == predicted,
            f"{predicted} requests are counted",
        )
        samples = model.scrape()
        assert total(samples, "model_predictions_total") == predicted
        assert total(samples, "http_requests_inprogress") == 0
        assert "Traceback" not in model.program.output()


@pytest.mark.parametrize("packet", [1, 7, 100])
def test_requests_may_come_in_any_pieces(
    start_model: StartModel, red_inputs: list[Row], packet: int
) -> None:
    """A connection goes on after a row, a refusal, a batch and another route."""
    good = red_inputs[0]
    batch = {"instances": red_inputs[:3]}
    asked = [
        (request(good), 200),
        (request({}), 422),
        (request(cast("Row", batch), "/predict/batch"), 200),
        (request(good, "/nowhere"), 404),
        (request(good), 200),
    ]
    with start_model(MODEL_WORKERS="1") as model, connect(model) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = connection.makefile("rb")
        for content, status in asked:
            for start in range(0, len(content), packet):
                connection.sendall(content[start : start + packet])
            assert answer(stream)[0] == status
