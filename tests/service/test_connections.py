"""Requests on a connection are answered in order, and connections are distributed among workers."""

import json
import os
import signal
import socket
import threading
from contextlib import ExitStack
from functools import partial
from http.client import parse_headers
from io import BufferedReader
from pathlib import Path
from statistics import median
from typing import cast

import pytest

from tests.service.conftest import StartModel
from tests.support.example import Row
from tests.support.model import Model, total
from tests.support.wait import eventually

AHEAD = 2_000
CONNECTIONS = 32
CALM_BURSTS, BURSTS = 5, 100
# Less than a worker that is ahead leaves to the others.
CALM_SECONDS = 0.005
# Routes of the fast path and of the framework.
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


def test_pipelined_requests_are_answered_in_order(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """2,000 requests are sent before all answers are read; all are correct and counted once."""
    inputs = [held_out_inputs[i % len(held_out_inputs)] for i in range(AHEAD)]
    targets = [TARGETS[i % len(TARGETS)] for i in range(AHEAD)]
    sent = b"".join(request(*each) for each in zip(inputs, targets, strict=True))
    with start_model(MODEL_WORKERS="1") as model:
        expected = []
        with model.connect() as alone, alone.makefile("rb") as stream:
            for row in held_out_inputs:
                alone.sendall(request(row))
                expected.append(json.loads(answer(stream)[1])["quality"])

        with model.connect() as pipelined, pipelined.makefile("rb") as stream:
            sender = threading.Thread(target=pipelined.sendall, args=(sent,))
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
def test_requests_can_arrive_in_pieces_of_any_size(
    start_model: StartModel, held_out_inputs: list[Row], packet: int
) -> None:
    """A connection stays open after a row, a rejection, a batch and an unknown route."""
    good = held_out_inputs[0]
    batch = {"instances": held_out_inputs[:3]}
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
    """Open connections at once and return them after a request on each was answered."""
    connections = [stack.enter_context(model.connect()) for _ in range(count)]
    for each in connections:
        each.sendall(request(row))
        assert answer(stack.enter_context(each.makefile("rb")))[0] == 200
    return connections


def is_closed(connection: socket.socket) -> bool:
    """Return whether the server has closed an idle connection."""
    connection.setblocking(False)  # noqa: FBT003
    try:
        return not connection.recv(1)
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def schedule(pid: int) -> tuple[float, int]:
    """Return how long a process has waited for a processor, in seconds, and how often it got one.

    The kernel adds a wait when it ends: one that lasts is not in the sum yet.
    """
    _, nanoseconds, turns = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(nanoseconds) / 1e9, int(turns)


def waited(model: Model) -> dict[int, float]:
    """Return how long each worker has waited for a processor until now, in seconds."""
    turns = {pid: schedule(pid)[1] for pid in model.pids()}
    for pid, before in turns.items():
        ran_again = partial(lambda pid, before: schedule(pid)[1] > before, pid, before)
        eventually(ran_again, f"worker {pid} ran again")
    return {pid: schedule(pid)[0] for pid in turns}


def test_a_burst_of_connections_is_distributed(
    start_model: StartModel, held_out_inputs: list[Row]
) -> None:
    """Each of two workers has about half of them, also if one has just been replaced.

    A worker that got no processor for too long during a burst is rightly left out, so such bursts
    do not count. Without the listener one worker has nearly all or none.
    """
    died = []
    with start_model() as model, ExitStack() as stack:
        held: list[socket.socket] = []
        for _ in range(BURSTS):
            before = waited(model)
            held += burst(model, CONNECTIONS - len(held), held_out_inputs[0], stack)
            longest = max(after - before[pid] for pid, after in waited(model).items())
            oldest = min(model.pids())
            os.kill(oldest, signal.SIGKILL)
            model.wait_for_replacement(oldest)
            kept = [each for each in held if not is_closed(each)]
            if longest < CALM_SECONDS:
                died.append(len(held) - len(kept))
            if len(died) == CALM_BURSTS:
                break
            held = kept

    half = CONNECTIONS / 2
    assert len(died) == CALM_BURSTS, "the machine is too busy for any burst"
    assert median(abs(each - half) for each in died) <= half / 4, died
