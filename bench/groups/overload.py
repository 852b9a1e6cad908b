"""Four times as many rows as one worker can predict, for two minutes."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np

from bench import ours
from bench.bench import Bench
from bench.machine import BenchError, pinned
from bench.report import Goal, Section, at_most, number_text
from bench.servers import Server

_FACTOR = 4
_SECONDS = 120
_SHED = httpx.codes.SERVICE_UNAVAILABLE
_CALIBRATION_SECONDS = 5
_BATCH = 1_000
# The service has at most so many, so that no request is lost because it closes an idle one.
_CONNECTIONS = 400
_PROBE_SECONDS = 0.1
# Once an answer takes less than this again, the overload is over.
_NORMAL_SECONDS = 0.05
_NORMAL_ANSWERS = 10
# Of so many answers, one is compared: reading all of them would slow the load down.
_COMPARED = 10

Address = tuple[str, int]


@dataclass
class Answers:
    """How often each status came back, and after how many seconds since a request was due."""

    statuses: Counter[int] = field(default_factory=Counter)
    served: list[float] = field(default_factory=list)
    shed: list[float] = field(default_factory=list)
    wrong: int = 0
    unsent: int = 0


class Client:
    """One connection, which is opened again after the service has closed it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, message: bytes) -> tuple[int, bytes]:
        """Return the status and the body of an answer, or 0 if there was none."""
        try:
            reader, writer = self._streams or await asyncio.open_connection(*self._address)
            self._streams = reader, writer
            writer.write(message)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.partition(b"content-length:")[2].split(b"\r\n")[0]
            body = await reader.readexactly(int(length))
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            return 0, b""
        if b"connection: close" in head:
            self.close()
        return int(head.split()[1]), body

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._streams:
            self._streams[1].close()
        self._streams = None


def measure(bench: Bench) -> Section:
    """Measure one worker in overload."""
    server = ours.monitored(bench)
    with bench.running(server), pinned({bench.cores.loader}):
        rate, answers, probes, recovery = asyncio.run(_overload(server, bench))
    served, shed = answers.statuses[httpx.codes.OK], answers.statuses[_SHED]
    others = answers.statuses.total() - served - shed
    return Section(
        f"Overload: {_FACTOR} times the {rate:.0f} batches/s that one worker serves,"
        f" for {_SECONDS} s",
        [
            ["", "", "p50, ms", "p99, ms", "longest, ms"],
            [f"served, {_BATCH:,} rows each", f"{served / _SECONDS:.0f}/s", *_of(answers.served)],
            ["rejected with 503", f"{shed / _SECONDS:.0f}/s", *_of(answers.shed)],
            *([f"{name}, all successful", f"{len(p)}", *_of(p)] for name, p in probes.items()),
        ],
        [
            Goal(
                "overload",
                "no other status, no wrong answer",
                f"{others} and {answers.wrong}",
                not others + answers.wrong,
            ),
            at_most("overload", "time until all is normal again", recovery, 5, " s"),
        ],
        [f"{answers.unsent} requests had no free connection among {_CONNECTIONS}."],
    )


def _of(latencies: Sequence[float]) -> list[str]:
    values = np.array(latencies or [np.nan]) * 1e3
    return [number_text(float(each)) for each in (*np.quantile(values, [0.5, 0.99]), values.max())]


async def _overload(
    server: Server, bench: Bench
) -> tuple[float, Answers, dict[str, list[float]], float]:
    """Return the capacity, the answers, the latencies of the probes, and the recovery in s."""
    rows = [bench.rows[index % len(bench.rows)] for index in range(_BATCH)]
    body = json.dumps({"instances": rows}).encode()
    url = httpx.URL(bench.request(server).url)
    head = f"POST /predict/batch HTTP/1.1\r\nHost: bench\r\nContent-Length: {len(body)}\r\n\r\n"
    message = head.encode() + body
    address = str(url.host), int(url.port or 80)
    expected = await _expected(address, message)
    capacity = await _capacity(address, message)
    answers = Answers()
    stop = asyncio.Event()
    probes: dict[str, list[float]] = {}
    single = httpx.Request("POST", url, json=bench.rows[0])
    probing = [
        asyncio.create_task(_probe(request, probes.setdefault(name, []), stop))
        for name, request in {
            "/healthz": httpx.Request("GET", url.copy_with(path="/healthz")),
            "/readyz": httpx.Request("GET", url.copy_with(path="/readyz")),
            "/metrics": httpx.Request("GET", ours.metrics_url(server)),
        }.items()
    ]
    await _offer(address, message, _FACTOR * capacity, expected, answers)
    recovery = await _recovery(single)
    stop.set()
    await asyncio.gather(*probing)
    return capacity, answers, probes, recovery


async def _expected(address: Address, message: bytes) -> list[Any]:
    status, body = await Client(address).ask(message)
    if status != httpx.codes.OK:
        raise BenchError(f"the first batch was answered with {status}")
    return _values(body)


def _values(body: bytes) -> list[Any]:
    """Return the predictions without their ids."""
    return [
        {name: value for name, value in each.items() if name != "prediction_id"}
        for each in json.loads(body)["predictions"]
    ]


async def _capacity(address: Address, message: bytes) -> float:
    """Return the batches per second that four clients reach together."""
    end = time.monotonic() + _CALIBRATION_SECONDS

    async def client() -> int:
        each, served = Client(address), 0
        while time.monotonic() < end:
            await each.ask(message)
            served += 1
        each.close()
        return served

    return sum(await asyncio.gather(*(client() for _ in range(4)))) / _CALIBRATION_SECONDS


async def _offer(
    address: Address, message: bytes, rate: float, expected: list[Any], answers: Answers
) -> None:
    """Send at a constant rate, whatever comes back."""
    clients = [Client(address) for _ in range(_CONNECTIONS)]
    free = [*clients]
    pending: set[asyncio.Task[None]] = set()

    async def send(client: Client, due: float) -> None:
        status, body = await client.ask(message)
        seconds = time.monotonic() - due
        answers.statuses[status] += 1
        if status == httpx.codes.OK:
            answers.served.append(seconds)
            is_compared = not len(answers.served) % _COMPARED
            answers.wrong += is_compared and _values(body) != expected
        else:
            answers.shed.append(seconds)
        free.append(client)

    start = time.monotonic()
    for number in range(round(rate * _SECONDS)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if free:
            task = asyncio.create_task(send(free.pop(), due))
            pending.add(task)
            task.add_done_callback(pending.discard)
        else:
            answers.unsent += 1
    await asyncio.gather(*pending)
    for each in clients:
        each.close()


async def _recovery(request: httpx.Request) -> float:
    """Return after how many seconds answers were right and in time."""
    start, good, since = time.monotonic(), 0, 0.0
    async with httpx.AsyncClient(timeout=30) as client:
        while good < _NORMAL_ANSWERS:
            begin = time.monotonic()
            response = await client.send(request)
            is_normal = response.is_success and time.monotonic() - begin < _NORMAL_SECONDS
            if not is_normal:
                good, since = 0, time.monotonic() - start
            good += is_normal
            await asyncio.sleep(_NORMAL_SECONDS)
    return since


async def _probe(request: httpx.Request, latencies: list[float], stop: asyncio.Event) -> None:
    """Ask again and again. Raises HTTPError if an answer is no success."""
    async with httpx.AsyncClient(timeout=30) as client:
        while not stop.is_set():
            begin = time.monotonic()
            (await client.send(request)).raise_for_status()
            latencies.append(time.monotonic() - begin)
            await asyncio.sleep(_PROBE_SECONDS)
