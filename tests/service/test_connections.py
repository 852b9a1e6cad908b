"""Connections: answers in order, however requests are cut or sent ahead; shared among workers."""

import json
import os
import signal
import socket
import threading
from contextlib import ExitStack
from http.client import parse_headers
from io import BufferedReader
from statistics import median
from typing import cast

import pytest

from tests.service.conftest import StartModel
from tests.support.model import Model, total
from tests.support.wait import eventually
from wine_quality.data import Row

AHEAD = 2_000
CONNECTIONS = 32
DEATHS = 5
# What the fast path answers, and what it leaves to the framework.
TARGETS = ("/predict", "/predict", "/predict?again", "/predictions", "/predict")


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
    with start_model(MODEL_WORKERS="1") as model:
        expected = []
        with model.connect() as alone, alone.makefile("rb") as stream:
            for row in red_inputs:
                alone.sendall(request(row))
                expected.append(json.loads(answer(stream)[1])["quality"])

        with model.connect() as ahead, ahead.makefile("rb") as stream:
            sender = threading.Thread(target=ahead.sendall, args=(sent,))
            sender.start()
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
    with (
        start_model(MODEL_WORKERS="1") as model,
        model.connect() as connection,
        connection.makefile("rb") as stream,
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for content, status in asked:
            for start in range(0, len(content), packet):
                connection.sendall(content[start : start + packet])
            assert answer(stream)[0] == status


def burst(model: Model, count: int, row: Row, stack: ExitStack) -> list[socket.socket]:
    """Return so many connections, opened at once; all are answered, so some worker has each."""
    connections = [stack.enter_context(model.connect()) for _ in range(count)]
    for each in connections:
        each.sendall(request(row))
        assert answer(stack.enter_context(each.makefile("rb")))[0] == 200
    return connections


def is_over(connection: socket.socket) -> bool:
    """Tell whether the other side has closed an idle connection."""
    connection.setblocking(False)  # noqa: FBT003
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_burst_of_connections_is_shared_out(
    start_model: StartModel, red_inputs: list[Row]
) -> None:
    """Of two workers each holds about half; also one that has just taken another's place.

    A machine that is busy otherwise may keep a worker off its cores for so long that it is passed:
    hence the median of several deaths. Left to the kernel, one worker has nearly all or nothing.
    """
    died = []
    with start_model() as model, ExitStack() as stack:
        held: list[socket.socket] = []
        for _ in range(DEATHS):
            held += burst(model, CONNECTIONS - len(held), red_inputs[0], stack)
            oldest = min(model.pids())
            os.kill(oldest, signal.SIGKILL)
            model.wait_for_replacement(oldest)
            held = [each for each in held if not is_over(each)]
            died.append(CONNECTIONS - len(held))

    half = CONNECTIONS / 2
    assert median(abs(each - half) for each in died) <= half / 4, died


def test_a_stopped_worker_holds_up_no_connection(
    start_model: StartModel, red_inputs: list[Row]
) -> None:
    """The other one goes ahead of it as far as it must."""
    with start_model() as model, ExitStack() as stack:
        stopped = min(model.pids())
        os.kill(stopped, signal.SIGSTOP)
        stack.callback(os.kill, stopped, signal.SIGCONT)
        burst(model, CONNECTIONS, red_inputs[0], stack)
