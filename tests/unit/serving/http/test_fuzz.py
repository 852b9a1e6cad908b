"""Random bytes cause no 5xx and no hang, and each rejection is counted once.

20,000 inputs, the same each time; `./task fuzz` sends 200,000 others. An input is what one client
sends over one connection, cut into packets, before it closes its own direction.
"""

import asyncio
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.config import Config

from tests.support.bundles import read_metrics
from tests.support.model import total
from tests.support.protocol import Client, request

CONFIGURED = os.environ.get("FUZZ_INPUTS")
INPUTS = int(CONFIGURED or 20_000)
DOORS = ("fast path", "FastAPI")
# Inputs that are generated together: hypothesis takes longer per example than the service.
TOGETHER = 20
# After this many turns of the event loop, a connection that is still open hangs.
MAX_TURNS = 2_000

GOOD = (
    b'{"fixed_acidity":7.4,"volatile_acidity":0.7,"citric_acid":0,"residual_sugar":1.9,'
    b'"chlorides":0.076,"free_sulfur_dioxide":11,"total_sulfur_dioxide":34,"density":0.9978,'
    b'"ph":3.51,"sulphates":0.56,"alcohol_pct_vol":9.4}'
)
UPGRADE = (b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
REQUESTS = (
    request(GOOD),
    request(GOOD, *UPGRADE),
    request(GOOD, b"Expect: 100-continue"),
    request(GOOD, b"Connection: close"),
    request(GOOD, b"X: " + b"a" * 70_000),
    request(GOOD).replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    request(GOOD, target=b"/predict?x"),
    request(GOOD, target=b"/nowhere"),
    request(b"{}"),
    request(b""),
    request(b" " * 6_000),
    CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD),
    CHUNKED + b"5;x=y\r\n{    \r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"PURGE /predict HTTP/1.1\r\nHost: x\r\n\r\n",
    b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n",
)
FRAGMENTS = (
    *(b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b",", b"\x00", b"\xff", b"\r\n\r\n", b"0\r\n\r\n"),
    *(b"HTTP/1.1", b"HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST ", b"/predict", b"GET"),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Upgrade: h2c\r\n"),
    *(b"Connection: upgrade\r\n", b"Connection: close\r\n", b"Expect: 100-continue\r\n"),
    *(b"Host: x\r\n", b"ffffffff\r\n", b"{", b"}", b'"ph"', b"NaN", b"1e999", b"a" * 70_000),
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r]+\r\ndate: now\r\n")
REJECTED = re.compile(rb'{"detail":"The request')

Packets = list[bytes]


def spy(owner: Any, name: str) -> list[Any]:  # noqa: ANN401
    """Return the list of the calls of a method, each with its arguments."""
    method, calls = getattr(owner, name), list[Any]()

    def call(*arguments: Any) -> None:  # noqa: ANN401
        calls.append(arguments)
        method(*arguments)

    setattr(owner, name, call)
    return calls


@st.composite
def inputs(draw: st.DrawFn) -> Packets:
    """Draw what a client sends: requests and fragments, damaged, and cut into packets."""
    piece = st.sampled_from(REQUESTS) | st.sampled_from(FRAGMENTS) | st.binary(max_size=6)
    sent = bytearray(b"".join(draw(st.lists(piece, min_size=1, max_size=6))))
    place = st.integers(0, max(0, len(sent) - 1))
    for at, size, new in draw(
        st.lists(st.tuples(place, st.integers(0, 4), st.sampled_from(FRAGMENTS)), max_size=2)
    ):
        sent[at : at + size] = new
    cuts = sorted(draw(st.lists(place, max_size=3)))
    return [bytes(sent[i:j]) for i, j in zip([0, *cuts], [*cuts, len(sent)], strict=True) if i != j]


async def converse(config: Config, packets: Packets) -> tuple[bytes, bool, bool]:
    """Return what a client gets, whether the protocol rejected something, and whether it left.

    It leaves when it ends while the server owes it nothing; its last request may be incomplete.
    """
    client = Client(config)
    for packet in packets:
        if client.wire.closing:
            break
        client.send(packet)
        await asyncio.sleep(0)
    leaves = not client.wire.closing and not client.end()
    for _ in range(MAX_TURNS):
        if client.is_done:
            break
        await asyncio.sleep(0)
    assert client.is_done, "the connection hangs"
    client.wire.protocol.connection_lost(None)
    await asyncio.sleep(0)
    is_rejected = client.protocol._rejection is not None  # noqa: SLF001
    return client.wire.written, is_rejected, leaves


@pytest.mark.timeout(7_200 if CONFIGURED else 900)
@pytest.mark.parametrize("door", DOORS)
def test_random_bytes_are_answered_or_rejected(
    app: FastAPI, config: Config, tmp_path: Path, door: str
) -> None:
    """Through both doors; what was rejected is counted once, and nothing is left over."""
    gatekeeper = app.state.gatekeeper
    metrics = app.state.fast_path.service.metrics
    reasons, rows = spy(gatekeeper, "count"), spy(metrics, "reject")
    if door == "FastAPI":
        app.state.fast_path = None
    statuses: Counter[int] = Counter()

    async def talk(each: list[Packets]) -> None:
        for packets in each:
            reasons.clear()
            rows.clear()
            written, is_rejected, leaves = await converse(config, packets)
            found = [int(each) for each in STATUS.findall(written)]
            assert all(status < 500 for status in found), found
            assert len(reasons) == is_rejected
            assert len(REJECTED.findall(written)) <= is_rejected
            answered = found.count(413) + found.count(422)
            # Who leaves does not see the answer to what it had only announced.
            assert answered <= len(rows) <= answered + leaves
            statuses.update(found)
            statuses[0] += 1

    with asyncio.Runner() as runner:

        @settings(
            max_examples=INPUTS // len(DOORS) // TOGETHER,
            deadline=None,
            database=None,
            derandomize=CONFIGURED is None,
            suppress_health_check=[*HealthCheck],
        )
        @given(st.lists(inputs(), min_size=TOGETHER, max_size=TOGETHER))
        def run(each: list[Packets]) -> None:
            runner.run(talk(each))

        run()

    assert statuses.pop(0) >= INPUTS // len(DOORS)
    assert {200, 400, 404, 405, 413, 422, 431} <= statuses.keys()
    assert total(read_metrics(tmp_path), "http_requests_inprogress") == 0
    assert gatekeeper.keep(0)
    assert gatekeeper._unfinished == 0  # noqa: SLF001
