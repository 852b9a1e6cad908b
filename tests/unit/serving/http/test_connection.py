"""What a client may do to a connection, and what it gets, through both doors."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from uvicorn.config import Config

from serving.http.gatekeeper import RESERVE, Gatekeeper
from tests.support.bundles import read_metrics
from tests.support.model import by_label, total
from tests.support.protocol import TURNS, Client, request

GOOD = (
    b'{"fixed_acidity":7.4,"volatile_acidity":0.7,"citric_acid":0,"residual_sugar":1.9,'
    b'"chlorides":0.076,"free_sulfur_dioxide":11,"total_sulfur_dioxide":34,"density":0.9978,'
    b'"ph":3.51,"sulphates":0.56,"alcohol_pct_vol":9.4}'
)
HEAD = b"POST /predict HTTP/1.1\r\nHost: model\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# As curl --http2 sends it, and as the JDK's HttpClient does.
UPGRADES = (
    (
        b"Connection: Upgrade, HTTP2-Settings",
        b"Upgrade: h2c",
        b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ),
    (
        b"Connection: HTTP2-Settings, Upgrade",
        b"HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
        b"Upgrade: h2c",
    ),
    (b"connection: keep-alive, upgrade", b"upgrade: websocket"),
)
MAX_HEAD = 65_536
MAX_BODY = 5_000
LATER = 1e9


@pytest.fixture(name="door", params=["fast path", "FastAPI"])
def _door(request: pytest.FixtureRequest, app: FastAPI) -> str:
    """Serve through one of the doors."""
    if request.param == "FastAPI":
        app.state.fast_path = None
    return str(request.param)


@pytest.fixture(name="gatekeeper")
def _gatekeeper(app: FastAPI) -> Gatekeeper:
    gatekeeper: Gatekeeper = app.state.gatekeeper
    return gatekeeper


def rejections(directory: Path) -> Mapping[str, float]:
    """Return how often each reason was counted, without those that were not."""
    counts = by_label(read_metrics(directory), "http_rejections_total", "reason")
    return {reason: count for reason, count in counts.items() if count}


def talk(conversation: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401 what it returns
    """Run a conversation to its end."""

    async def run() -> Any:  # noqa: ANN401
        return await conversation()

    return asyncio.run(asyncio.wait_for(run(), 60))


def ask(config: Config, parts: Sequence[bytes], count: int = 1) -> list[httpx.Response]:
    """Return the answers to requests that arrive in parts."""

    async def conversation() -> list[httpx.Response]:
        client = Client(config)
        client.send(*parts)
        return await client.answers(count)

    answers: list[httpx.Response] = talk(conversation)
    return answers


async def turns() -> None:
    """Let the event loop do what is due."""
    for _ in range(TURNS):
        await asyncio.sleep(0)


@pytest.mark.parametrize("upgrade", UPGRADES, ids=["curl", "JDK", "WebSocket"])
@pytest.mark.usefixtures("door")
class TestUpgrade:
    """A wish for another protocol is ignored, and the request is served."""

    def test_together(self, config: Config, upgrade: Sequence[bytes]) -> None:
        """Head and body arrive in one packet."""
        (answer,) = ask(config, [request(GOOD, *upgrade)])
        assert answer.status_code == 200

    def test_split(self, config: Config, upgrade: Sequence[bytes]) -> None:
        """Each byte arrives alone."""
        whole = request(GOOD, *upgrade)
        (answer,) = ask(config, [whole[i : i + 1] for i in range(len(whole))])
        assert answer.status_code == 200

    def test_chunked(self, config: Config, upgrade: Sequence[bytes]) -> None:
        """The body has no length."""
        head = b"\r\n".join([CHUNKED[:-4], *upgrade, b"", b""])
        chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD)
        (answer,) = ask(config, [head, chunks])
        assert answer.status_code == 200

    def test_pipelined(self, config: Config, upgrade: Sequence[bytes], tmp_path: Path) -> None:
        """Several requests with and without the wish arrive together."""
        bodies = [GOOD, b"{}", GOOD, b"[]"] * 50
        sent = b"".join(request(each, *upgrade) + request(each) for each in bodies)

        async def conversation() -> list[int]:
            client = Client(config)
            client.send(sent)
            for _ in range(len(bodies)):
                await turns()
            return [each.status_code for each in await client.answers(2 * len(bodies))]

        assert talk(conversation) == [200, 200, 422, 422] * 100
        assert rejections(tmp_path) == {}
        assert total(read_metrics(tmp_path), "model_predictions_total") == 200

    def test_the_clients_other_options_hold(self, config: Config, upgrade: Sequence[bytes]) -> None:
        """`Connection: close` beside it closes the connection."""

        async def conversation() -> None:
            client = Client(config)
            client.send(request(GOOD, *upgrade, b"Connection: close"))
            (answer,) = await client.answers(1)
            assert answer.headers["connection"] == "close"
            assert client.is_done

        talk(conversation)


@pytest.mark.usefixtures("door")
def test_a_tunnel_is_rejected(config: Config, tmp_path: Path) -> None:
    """After `CONNECT`, nothing that follows is taken for a request."""

    async def conversation() -> httpx.Response:
        client = Client(config)
        client.send(b"CONNECT /predict HTTP/1.1\r\nHost: model\r\n\r\n" + request(GOOD))
        (answer,) = await client.answers(1)
        assert client.is_done
        return answer

    assert talk(conversation).status_code == 400
    assert rejections(tmp_path) == {"malformed": 1}


def head_of(size: int) -> bytes:
    """Return a request for the model's page whose line and headers have `size` bytes."""
    start, end = b"GET / HTTP/1.1\r\nhost: model\r\n", b"\r\n\r\n"
    name = b"x-padding: "
    return start + name + b"a" * (size - len(start) - len(name) - len(end)) + end


@pytest.mark.parametrize("packet", [1_000, 10**6], ids=["in packets", "at once"])
def test_a_head_up_to_the_limit_is_served(config: Config, tmp_path: Path, packet: int) -> None:
    """Also if another request precedes it in the same packet."""
    whole = request(GOOD) + head_of(MAX_HEAD)
    parts = [whole[i : i + packet] for i in range(0, len(whole), packet)]

    assert [each.status_code for each in ask(config, parts, 2)] == [200, 200]
    assert rejections(tmp_path) == {}


@pytest.mark.parametrize("packet", [1_000, 10**6], ids=["in packets", "at once"])
@pytest.mark.parametrize("size", [MAX_HEAD + 100, 3 * MAX_HEAD, 100 * MAX_HEAD])
def test_a_larger_head_is_rejected(config: Config, tmp_path: Path, size: int, packet: int) -> None:
    """The answer is 431, the connection closes, and what follows is not even parsed."""

    async def conversation() -> httpx.Response:
        client = Client(config)
        whole = head_of(size)
        for start in range(0, len(whole), packet):
            client.send(whole[start : start + packet])
            if client.is_done:
                break
            assert start <= 2 * MAX_HEAD
        (answer,) = await client.answers(1)
        return answer

    answer = talk(conversation)
    assert answer.status_code == 431
    assert answer.headers["connection"] == "close"
    assert rejections(tmp_path) == {"head_too_large": 1}


@pytest.mark.parametrize(
    "start",
    [b"0\r\nx: ", b"0\r\n" + b"x: y\r\n" * 10, b"5;x="],
    ids=["trailer", "trailers", "extension"],
)
@pytest.mark.usefixtures("door")
def test_what_stands_around_a_chunked_body_is_bounded(
    config: Config, tmp_path: Path, start: bytes
) -> None:
    """Trailers and extensions of chunks are no way past the limit."""

    async def conversation() -> int:
        client = Client(config)
        client.send(CHUNKED, start)
        piece = b"x: y\r\n" * 1_000 if start.endswith(b"\n") else b"a" * 6_000
        for _ in range(1_000):
            client.send(piece)
            await asyncio.sleep(0)
            if client.is_done:
                break
        assert client.is_done
        (answer,) = await client.answers(1)
        return answer.status_code

    assert talk(conversation) == 431
    assert rejections(tmp_path) == {"head_too_large": 1}


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_a_connection_closes_after_a_413(
    config: Config,
    tmp_path: Path,
    announced: bool,  # noqa: FBT001
) -> None:
    """The answer says so; the rest is discarded up to a limit, and counted nowhere."""
    head = HEAD + b"Content-Length: 100000000\r\n\r\n" if announced else CHUNKED

    async def conversation() -> httpx.Response:
        client = Client(config)
        client.send(head)
        sent = 0
        while not client.wire.closing and sent < 100_000_000:
            client.send(b" " * 1_000 if announced else b"3e8\r\n" + b" " * 1_000 + b"\r\n")
            sent += 1_000
            await asyncio.sleep(0)
        assert sent <= 5 * MAX_BODY
        (answer,) = await client.answers(1)
        return answer

    answer = talk(conversation)
    assert answer.status_code == 413
    assert answer.headers["connection"] == "close"
    assert rejections(tmp_path) == {}
    samples = read_metrics(tmp_path)
    assert total(samples, "model_input_rejected_total", reason="too_large") == 1
    assert total(samples, "model_rows_rejected_total") == 1


def test_a_body_that_nobody_reads_is_bounded(config: Config) -> None:
    """After a 404, the connection closes once the body exceeds its limit."""

    async def conversation() -> None:
        client = Client(config)
        client.send(CHUNKED.replace(b"/predict", b"/nowhere"))
        (answer,) = await client.answers(1)
        assert answer.status_code == 404
        sent = 0
        while not client.is_done:
            client.send(b"3e8\r\n" + b" " * 1_000 + b"\r\n")
            sent += 1_000
            assert sent <= 2 * MAX_BODY

    talk(conversation)


def test_a_body_that_follows_its_answer_keeps_the_connection(config: Config) -> None:
    """A client that sends head and body apart may use its connection again after a 404."""

    async def conversation() -> list[int]:
        client = Client(config)
        lost = request(GOOD, target=b"/nowhere")
        client.send(lost[: -len(GOOD)])
        await client.answers(1)
        client.send(GOOD)
        client.send(request(GOOD))
        return [each.status_code for each in await client.answers(2)]

    assert talk(conversation) == [404, 200]


@pytest.mark.usefixtures("door")
class TestHalfClosed:
    """A client that has closed only its own direction gets what it asked for."""

    def test_answers(self, config: Config) -> None:
        """All of them, in order; then the connection closes."""

        async def conversation() -> list[int]:
            client = Client(config)
            client.send(request(GOOD) + request(b"{}") + request(GOOD))
            assert client.end()
            answers = await client.answers(3)
            assert client.is_done
            assert answers[-1].headers["connection"] == "close"
            return [each.status_code for each in answers]

        assert talk(conversation) == [200, 422, 200]

    @pytest.mark.parametrize("rest", [request(GOOD)[:20], request(GOOD)[:-10]])
    def test_an_incomplete_request_is_dropped(
        self, config: Config, tmp_path: Path, rest: bytes
    ) -> None:
        """Those before it are answered."""

        async def conversation() -> int:
            client = Client(config)
            client.send(request(GOOD, target=b"/predict?") + rest)
            assert client.end()
            (answer,) = await client.answers(1)
            await turns()
            assert client.is_done
            return answer.status_code

        assert talk(conversation) == 200
        assert total(read_metrics(tmp_path), "model_predictions_total") == 1

    @pytest.mark.parametrize("part", [b"", request(GOOD)[:20], request(GOOD)[:-10]])
    def test_without_a_request_it_closes(self, config: Config, part: bytes) -> None:
        """Nothing is due."""

        async def conversation() -> None:
            client = Client(config)
            client.send(*([part] if part else []))
            assert not client.end()
            client.protocol.connection_lost(None)
            await turns()
            assert client.wire.written == b""

        talk(conversation)


@pytest.mark.usefixtures("door")
@pytest.mark.parametrize(
    "fault",
    [b"nonsense\r\n\r\n", HEAD + b"Content-Length: x\r\n\r\n", CHUNKED + b"zz\r\n"],
    ids=["line", "header", "chunk"],
)
def test_a_fault_waits_for_the_answers_before_it(
    config: Config, tmp_path: Path, fault: bytes
) -> None:
    """A client must not take the 400 for the answer to an earlier request."""

    async def conversation() -> list[int]:
        client = Client(config)
        client.send(request(GOOD) + request(b"{}") + fault)
        assert client.end()
        answers = await client.answers(3)
        assert client.is_done
        return [each.status_code for each in answers]

    assert talk(conversation) == [200, 422, 400]
    assert rejections(tmp_path) == {"malformed": 1}
    assert total(read_metrics(tmp_path), "model_predictions_total") == 1


@pytest.mark.usefixtures("door")
class TestDeadlines:
    """A client that lets the server wait too long is disconnected; if it had begun, with a 408."""

    def wait(self, client: Client) -> None:
        """Look at the connection now, and again much later."""
        client.protocol.check(0)
        client.protocol.check(LATER)

    def test_head(self, config: Config, tmp_path: Path) -> None:
        """Half a head is answered 408."""

        async def conversation() -> int:
            client = Client(config)
            client.send(request(GOOD)[:30])
            self.wait(client)
            assert client.is_done
            return (await client.answers(1))[0].status_code

        assert talk(conversation) == 408
        assert rejections(tmp_path) == {"head_timeout": 1}

    def test_body(self, config: Config, tmp_path: Path) -> None:
        """Half a body is answered 408, and its request is over."""

        async def conversation() -> int:
            client = Client(config)
            client.send(request(GOOD)[:-10])
            await turns()
            self.wait(client)
            assert client.is_done
            await turns()
            return (await client.answers(1))[0].status_code

        assert talk(conversation) == 408
        assert rejections(tmp_path) == {"body_timeout": 1}
        assert total(read_metrics(tmp_path), "model_rows_rejected_total") == 0

    def test_idle(self, config: Config, tmp_path: Path) -> None:
        """A connection at rest just closes: one never used, and one that is kept alive."""

        async def conversation() -> None:
            new, kept = Client(config), Client(config)
            kept.send(request(GOOD))
            await kept.answers(1)
            written = kept.wire.written
            self.wait(new)
            self.wait(kept)
            assert new.wire.closing
            assert kept.wire.closing
            assert (new.wire.written, kept.wire.written) == (b"", written)

        talk(conversation)
        assert rejections(tmp_path) == {"head_timeout": 1}

    def test_reader(self, config: Config, tmp_path: Path) -> None:
        """A client that does not read its answer is cut off."""

        async def conversation() -> None:
            client = Client(config)
            client.send(request(GOOD))
            await client.answers(1)
            client.wire.unsent = 1_000
            self.wait(client)
            assert client.wire.aborted

        talk(conversation)
        assert rejections(tmp_path) == {"answer_timeout": 1}

    def test_progress_resets_them(self, config: Config, tmp_path: Path) -> None:
        """Each request has deadlines of its own; a second look at the next one is no timeout."""

        async def conversation() -> None:
            client = Client(config)
            for number in range(3):
                client.send(request(GOOD)[:30])
                client.protocol.check(number * LATER)
                client.send(request(GOOD)[30:])
                await client.answers(number + 1)
            assert not client.is_done

        talk(conversation)
        assert rejections(tmp_path) == {}


def test_the_sweep_meets_the_deadlines(
    app: FastAPI, config: Config, gatekeeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs while there are connections, and again after there were none."""
    monkeypatch.setattr("serving.http.gatekeeper._SWEEP_SECONDS", 0)
    gatekeeper.deadlines = dict.fromkeys(gatekeeper.deadlines, 0)

    async def conversation() -> None:
        for _ in range(2):
            client = Client(config)
            while not client.wire.closing:  # noqa: ASYNC110 a closed wire is no event
                await asyncio.sleep(0)
            client.protocol.connection_lost(None)
            await turns()

    assert app.state.gatekeeper is gatekeeper
    talk(conversation)


class TestConnections:
    """A worker has room for new connections, whatever the others do."""

    @pytest.fixture(autouse=True)
    def _few(self, gatekeeper: Gatekeeper, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gatekeeper, "_max_connections", 10)

    def test_the_longest_idle_makes_room(self, config: Config, tmp_path: Path) -> None:
        """First one that never brought a request, then one between requests."""

        async def conversation() -> None:
            kept = Client(config)
            kept.send(request(GOOD))
            await kept.answers(1)
            silent = [Client(config) for _ in range(9)]
            newest = [Client(config) for _ in range(9)]
            assert all(each.wire.closing for each in silent)
            assert not kept.wire.closing
            for each in newest:
                each.send(request(GOOD))
                await each.answers(1)
            again = Client(config)
            assert kept.wire.closing
            again.send(request(GOOD))
            assert (await again.answers(1))[0].status_code == 200

        talk(conversation)
        assert rejections(tmp_path) == {"connections": 10}

    @pytest.mark.usefixtures("door")
    def test_health_checks_have_room_of_their_own(self, config: Config, tmp_path: Path) -> None:
        """While every connection is busy, further ones get 503, except for health checks."""

        async def conversation() -> None:
            busy = [Client(config) for _ in range(10)]
            for each in busy:
                each.send(request(GOOD)[:-1])
            others = [Client(config) for _ in range(RESERVE)]
            for each in others:
                each.send(request(GOOD))
                (answer,) = await each.answers(1)
                assert answer.status_code == 503
                assert answer.headers["retry-after"] == "1"
                assert each.is_done
                each.protocol.connection_lost(None)
            probe = Client(config)
            probe.send(b"GET /readyz HTTP/1.1\r\nHost: model\r\n\r\n")
            assert (await probe.answers(1))[0].status_code == 200
            for each in busy:
                each.send(request(GOOD)[-1:])
                assert (await each.answers(1))[0].status_code == 200

        talk(conversation)
        assert rejections(tmp_path) == {"connections": RESERVE}
        assert total(read_metrics(tmp_path), "model_predictions_total") == 10

    def test_room_of_health_checks_is_bounded(self, config: Config, tmp_path: Path) -> None:
        """The longest idle one leaves it; if all are busy, the new one gets a 503 and is closed."""

        async def conversation() -> None:
            begun = request(GOOD, b"Expect: 100-continue")[:-1]
            for each in [Client(config) for _ in range(10)]:
                each.send(begun)
            reserve = [Client(config) for _ in range(RESERVE)]
            extra = Client(config)
            assert [each.wire.closing for each in reserve] == [True] + [False] * (RESERVE - 1)
            for each in (*reserve[1:], extra):
                each.send(b"GET / HTTP/1.1\r\nHost: model\r\n\r\n")
            last = Client(config)
            assert last.wire.closing
            assert b" 503 " in last.wire.written

        talk(conversation)
        assert rejections(tmp_path) == {"connections": 2}


@pytest.mark.usefixtures("door")
def test_unfinished_bodies_have_a_limit_together(
    config: Config, gatekeeper: Gatekeeper, tmp_path: Path
) -> None:
    """Beyond it, a request is answered 503; the memory of those that end is free again."""

    async def conversation() -> None:
        head = HEAD + b"Content-Length: 5000\r\n\r\n"
        clients = [Client(config) for _ in range(50)]
        for each in clients:
            each.send(head, b" " * 4_900)
            await turns()
        rejected = [each for each in clients if each.is_done]
        assert 0 < len(rejected) < 20
        assert all(b" 503 " in each.wire.written for each in rejected)
        for each in clients:
            each.protocol.connection_lost(None)
        await turns()
        client = Client(config)
        client.send(head, b" " * 4_900, b" " * 100)
        assert (await client.answers(1))[0].status_code == 422

    talk(conversation)
    assert set(rejections(tmp_path)) == {"memory"}
    assert gatekeeper.keep(0)
    assert gatekeeper._unfinished == 0  # noqa: SLF001


@pytest.mark.parametrize(
    ("target", "body"),
    [
        (b"/predict", GOOD),
        (b"/predict/batch", b'{"instances":[' + GOOD + b"]}"),
        (b"/feedback", b"[]"),
        (b"/invocations", b'{"dataframe_records":[' + GOOD + b"]}"),
    ],
)
def test_a_late_worker_sheds_load(
    app: FastAPI, config: Config, tmp_path: Path, target: bytes, body: bytes
) -> None:
    """The answer is 503 with Retry-After in the route's form; the connection can be used again."""
    load = app.state.gatekeeper.load
    load.max_seconds = -1

    async def conversation() -> httpx.Response:
        client = Client(config)
        client.send(request(body, target=target))
        (answer,) = await client.answers(1)
        load.max_seconds = 60
        client.send(request(GOOD))
        assert (await client.answers(2))[1].status_code == 200
        return answer

    answer = talk(conversation)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "overloaded" in answer.text
    assert rejections(tmp_path) == {"overload": 1}
    samples = read_metrics(tmp_path)
    assert total(samples, "model_rows_rejected_total") == 0
    assert total(samples, "model_feedback_rejected_total") == 0


@pytest.mark.usefixtures("door")
def test_a_stop_waits_for_a_head_that_has_begun(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its request is answered; one that never ends meets its deadline."""
    monkeypatch.setattr("serving.http.connection._LAST_REQUEST_SECONDS", 0)

    async def conversation() -> None:
        slow, endless = Client(config), Client(config)
        for each in (slow, endless):
            each.send(request(GOOD)[:30])
            each.protocol.shutdown()
        await turns()
        assert not slow.is_done
        slow.send(request(GOOD)[30:])
        (answer,) = await slow.answers(1)
        assert answer.status_code == 200
        assert answer.headers["connection"] == "close"
        assert slow.is_done
        endless.protocol.check(0)
        endless.protocol.check(LATER)
        assert endless.is_done

    talk(conversation)
