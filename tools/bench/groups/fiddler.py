"""Export to Fiddler: what it costs the service, most of all while Fiddler is down, and its speed.

Where what runs, on two cores. The services share one, and are asked in turn; the loader, which
never sleeps, has the other one to itself. While Fiddler is down the publisher shares the core of
the services: the worst case, for its tries hold up predictions. (Beside the loader they would hold
up the loader, which would blame the service.) It is stopped whenever a service without a spool is
asked, so that its work cannot slow down what it is compared with. When Fiddler is up, nobody asks
the services: the publisher has a core, and the stand-in, a part of this process, the other one.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from urllib.request import urlopen

import numpy as np
from numpy.typing import NDArray

from bundle.load import load_manifest
from bundle.manifest import Manifest
from serving.prediction_id import Signer
from serving.spool import Label, Limits, Outcome, Prediction, Spool
from tests.support.fiddler import ORGANISATION, TOKEN, Fiddler, running_fiddler
from tools.bench import ROOT, ours
from tools.bench.bench import VAR, Bench
from tools.bench.machine import BenchError, pinned, require_wrk
from tools.bench.reference import parse
from tools.bench.report import Goal, Section, at_least, at_most, number_text
from tools.bench.servers import Row, Server
from tools.bench.steady import quantile, steady
from tools.bench.wrk import Request, wrk
from tools.stack.ports import free_port

Floats = NDArray[np.float64]

PREDICTIONS = 100_000
_EVENTS = PREDICTIONS + PREDICTIONS // 2
# As many as a busy worker writes together; half of them get their label.
_TOGETHER = 16
_LIMITS = Limits(max_bytes=2 * 10**9, segment_bytes=16 * 10**6, segment_seconds=3600.0)
_BURST = 2_000
_TURN_SECONDS = 0.2
_PATIENCE = 120.0
_POLL = 0.01


@dataclass(frozen=True)
class Turn:
    """Latencies in seconds of a turn, and the share of its core that the loader had.

    The loader never sleeps: what it lacks was taken by others, which have no part in this.
    """

    latencies: Floats
    share: float


@dataclass(frozen=True)
class Turns:
    """All turns: without a spool, with it, and without it in another process."""

    off: list[Turn]
    on: list[Turn]
    again: list[Turn]

    @property
    def ratio(self) -> float:
        """How many times as long the p99 is with a spool."""
        return p99(self.on) / p99([*self.off, *self.again])

    @property
    def noise(self) -> float:
        """The same of two processes without one: 1, could it be measured exactly."""
        return p99(self.again) / p99(self.off)

    @property
    def together(self) -> float:
        """The ratio by all requests at once: costs that come seldom would show in this one."""
        on, off = (
            float(np.quantile(np.concatenate(undisturbed(turns)), 0.99))
            for turns in (self.on, [*self.off, *self.again])
        )
        return on / off


@dataclass(frozen=True)
class Rates:
    """Requests a second of one round, without a spool and with it."""

    off: float
    on: float

    @property
    def ratio(self) -> float:
        """How much of the throughput is left with a spool."""
        return self.on / self.off

    @property
    def cost(self) -> float:
        """What spooling a prediction takes, in µs."""
        return (1 / self.on - 1 / self.off) * 1e6


@dataclass(frozen=True)
class Mark:
    """How many events Fiddler has, at which time, and after how much of the publisher's; in s."""

    events: int
    wall: float
    processor: float


@dataclass(frozen=True)
class Speed:
    """Events a second: by the clock, and by the publisher's processor time."""

    wall: float
    processor: float


@dataclass(frozen=True)
class _Down:
    """What was measured while Fiddler was down."""

    throughput: Sequence[Rates]
    rate: float
    turns: Turns
    spooled: int
    refused: int


def measure(bench: Bench) -> Section:
    """Measure the goals of issue 6."""
    require_wrk()
    require_client()
    VAR.mkdir(parents=True, exist_ok=True)
    # On the disk, where a spool lies; not in memory, where the benchmark's other files do.
    with tempfile.TemporaryDirectory(prefix="spool-", dir=VAR) as directory:
        down = _measure_down(bench, Path(directory, "down"))
        up = [_measure_up(bench, Path(directory, f"up-{turn}")) for turn in range(bench.rounds)]
    predictions, labels, both = zip(*up, strict=True)
    published = {"predictions": predictions, "labels": labels, "events": both}
    return Section(
        f"Export to Fiddler, median of {bench.rounds} rounds",
        [
            ["", "measured", "lowest – highest"],
            *_throughput_rows(down.throughput),
            *_latency_rows(down),
            *(row for kind, speeds in published.items() for row in _published_rows(kind, speeds)),
        ],
        _goals(down, both),
        _notes(down),
    )


def require_client() -> None:
    """Raise BenchError where Fiddler's client is missing."""
    if find_spec("fiddler") is None:
        raise BenchError("fiddler-client is not installed: run ./task deps:publisher")


def _measure_down(bench: Bench, spool: Path) -> _Down:
    off, on = ours.monitored(bench), ours.spooling(bench, spool)
    again = replace(ours.monitored(bench), name=f"{off.name}, again")
    with bench.running(off), bench.running(again), bench.running(on):
        with pinned({bench.cores.loader}):
            throughput = _throughput(bench, off, on)
            rate = _sustained(bench.request(off)) / 2
        with refusing() as url, _publishing(bench, spool, url) as publisher:
            publisher.until(lambda: publisher.total("publisher_failures_total"), "a refusal")
            with pinned({bench.cores.loader}):
                turns = _turns(bench, (off, on, again), publisher, rate)
            refused = _check_refused(publisher)
        return _Down(throughput, rate, turns, _check_spooled(on), refused)


def _turns(
    bench: Bench, servers: tuple[Server, Server, Server], publisher: "_Publisher", rate: float
) -> Turns:
    """Ask in short turns, so that all have their share of what others do to the machine."""
    off, on, again = (bench.request(server) for server in servers)
    turns = Turns([], [], [])
    publisher.sleep()
    for _ in range(round(bench.rounds * bench.seconds / _TURN_SECONDS)):
        turns.off.append(_turn(off, rate))
        turns.on.append(_turn_beside(publisher, on, rate))
        turns.again.append(_turn(again, rate))
        turns.on.append(_turn_beside(publisher, on, rate))
    return turns


def _turn_beside(publisher: "_Publisher", request: Request, rate: float) -> Turn:
    with publisher.awake():
        return _turn(request, rate)


def _turn(request: Request, rate: float) -> Turn:
    start, busy = time.perf_counter(), time.process_time()
    latencies = steady(request, rate, _TURN_SECONDS)
    return Turn(latencies, (time.process_time() - busy) / (time.perf_counter() - start))


def undisturbed(turns: Sequence[Turn]) -> list[Floats]:
    """Return the latencies of that quarter of turns in which the loader had most of its core."""
    best = sorted(turns, key=lambda turn: turn.share, reverse=True)
    return [turn.latencies for turn in best[: (len(best) + 3) // 4]]


def p99(turns: Sequence[Turn]) -> float:
    """Return the median of the p99s of turns hardly disturbed, in seconds."""
    return quantile(undisturbed(turns), 0.99)


def _throughput(bench: Bench, off: Server, on: Server) -> list[Rates]:
    """Return the rates of both; there is no publisher yet, so it is spooling alone that costs."""
    requests = bench.request(off), bench.request(on)
    for each in requests:
        wrk(each, 1)
    return [
        Rates(*(wrk(each, bench.seconds).rate for each in requests)) for _ in range(bench.rounds)
    ]


def _sustained(request: Request) -> float:
    """Return how many requests a second this loader gets answered.

    wrk gets more, but a loader that is near its own limit would measure itself.
    """
    # All are due at once, so the last one's latency is the time that all have taken.
    return median(_BURST / float(steady(request, 1e9, _BURST / 1e9).max()) for _ in range(5))


def _check_refused(publisher: "_Publisher") -> int:
    """Return how often Fiddler was not there. Raises BenchError where it was."""
    with publisher.awake():
        if publisher.total("publisher_events_total"):
            raise BenchError("events were published while Fiddler was to be down")
        return int(publisher.total("publisher_failures_total"))


def _check_spooled(server: Server) -> int:
    """Return how many predictions were spooled. Raises BenchError where any was not."""
    page = ours.metrics_url(server)
    spooled = int(_total(page, "model_spool_events_total", outcome="written"))
    made = int(_total(page, "model_prediction_value_count"))
    if spooled < made:
        raise BenchError(f"of {made} predictions {spooled} were spooled")
    return spooled


def _measure_up(bench: Bench, spool: Path) -> tuple[Speed, Speed, Speed]:
    """Return the speed of predictions, of labels, and of all these events."""
    fill(spool, load_manifest(bench.bundle), bench.rows)
    settings = {"PUBLISHER_LABEL_DELAY_SECONDS": "0"}
    with (
        pinned({bench.cores.loader}),
        running_fiddler() as fiddler,
        _publishing(bench, spool, fiddler.url, **settings) as publisher,
    ):
        # From the first batch on: what comes before is an import, and making the model.
        marks = [_mark(publisher, fiddler, events) for events in (1, PREDICTIONS, _EVENTS)]
    first, middle, last = marks
    return speed(first, middle), speed(middle, last), speed(first, last)


def speed(start: Mark, end: Mark) -> Speed:
    """Return the speed between two marks."""
    events = end.events - start.events
    return Speed(events / (end.wall - start.wall), events / (end.processor - start.processor))


def _mark(publisher: "_Publisher", fiddler: Fiddler, events: int) -> Mark:
    """Return the state of things as soon as Fiddler has so many events."""
    publisher.until(lambda: _arrived(fiddler) >= events, f"{events:,} events arrived")
    return Mark(_arrived(fiddler), time.perf_counter(), _processor_seconds(publisher.pid))


def _arrived(fiddler: Fiddler) -> int:
    """Return the events that Fiddler has accepted: each once, labels that found theirs."""
    counts = fiddler.store.counts
    return counts["accepted"] + counts["updates"]


def fill(
    directory: Path, manifest: Manifest, rows: Sequence[Row], predictions: int = PREDICTIONS
) -> None:
    """Spool predictions as a worker does, and behind each two of them a label. Raises BenchError.

    Labels lie between predictions, so that the publisher has to look through all of it twice.
    """
    directory.mkdir()
    signer = Signer([b"k" * 32], manifest.name, manifest.version)
    counts: Counter[Outcome] = Counter()
    spool = Spool(directory, manifest, _LIMITS, lambda what, events: counts.update({what: events}))
    now = time.time()
    values = islice(cycle([*row.values()] for row in rows), predictions)
    events = [Prediction(signer.sign(5.5, now), now, each, 5.5) for each in values]
    for start in range(0, predictions, _TOGETHER):
        batch = events[start : start + _TOGETHER]
        spool.append(batch)
        spool.append([Label(each.prediction_id, now, manifest.version, 6.0) for each in batch[::2]])
    spool.close()
    if counts["failed"] or counts["dropped"]:
        raise BenchError(f"a spool in {directory.parent} could not be filled")


@contextmanager
def refusing() -> Iterator[str]:
    """Return the address of a Fiddler that refuses connections; nobody else can listen there."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


class _Publisher:
    """The real publisher, in a process of its own."""

    def __init__(self, process: "subprocess.Popen[bytes]", metrics_url: str, log: Path) -> None:
        self._process = process
        self._metrics_url = metrics_url
        self._log = log
        self.pid = process.pid

    def total(self, name: str) -> float:
        """Return the sum of a metric's series. Raises OSError."""
        return _total(self._metrics_url, name)

    def until(self, check: Callable[[], object], what: str) -> None:
        """Wait until something is so; an OSError says that it is not yet. Raises BenchError."""
        deadline = time.monotonic() + _PATIENCE
        while self._process.poll() is None and time.monotonic() < deadline:
            try:
                if check():
                    return
            except OSError:
                pass
            time.sleep(_POLL)
        last = self._log.read_text("utf-8", "replace").strip().splitlines()[-1:] or ["no word"]
        raise BenchError(f"the publisher, before {what}: {last[0]}")

    def sleep(self) -> None:
        """Stop it; its pauses run on meanwhile."""
        self._process.send_signal(signal.SIGSTOP)

    @contextmanager
    def awake(self) -> Iterator[None]:
        """Let it run while the block does."""
        self._process.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            self.sleep()


@contextmanager
def _publishing(bench: Bench, spool: Path, url: str, **settings: str) -> Iterator[_Publisher]:
    """Run a publisher with the settings it comes with, on the core of the services."""
    port = str(free_port())
    given = {
        "FIDDLER_URL": url,
        "FIDDLER_ORG_ID": ORGANISATION,
        "FIDDLER_AUTH_TOKEN": TOKEN,
        "MODEL_SPOOL_DIR": str(spool),
        "PUBLISHER_METRICS_PORT": port,
    }
    log = VAR / "log" / "publisher.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output, pinned({bench.cores.server}):
        process = subprocess.Popen(
            [sys.executable, "-m", "publisher"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=ROOT / "services" / "publisher",
            env=_environment() | given | settings,
        )
    try:
        yield _Publisher(process, f"http://127.0.0.1:{port}/metrics", log)
    finally:
        # What it has not noted, it would only send again; and a stopped one would not hear a word.
        process.kill()
        process.wait()


def _environment() -> dict[str, str]:
    """Return this process's environment without the settings of any service."""
    foreign = ("MODEL_", "PROMETHEUS_", "FIDDLER_", "PUBLISHER_")
    return {name: value for name, value in os.environ.items() if not name.startswith(foreign)}


def _total(page: str, name: str, **labels: str) -> float:
    """Return the sum of a metric's series that have these labels. Raises OSError."""
    with urlopen(page, timeout=10) as answer:  # noqa: S310 of 127.0.0.1
        samples = parse(answer.read().decode())
    return sum(
        value
        for (found, having), value in samples.items()
        if found == name and labels.items() <= dict(having).items()
    )


def _processor_seconds(pid: int) -> float:
    """Return how long a process has had a core, in whole ticks of 10 ms."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _row(what: str, values: Sequence[float]) -> list[str]:
    """Return a line of the table: the median over the rounds, and what they ranged over."""
    measured = f"{number_text(min(values))} – {number_text(max(values))}"
    return [what, number_text(median(values)), measured]


def _goals(down: _Down, published: Sequence[Speed]) -> list[Goal]:
    tail = at_most("issue 6", "p99, Fiddler down ÷ spool off", down.turns.ratio, 1.1)
    noise = number_text(down.turns.noise)
    return [
        replace(tail, figure=f"{tail.figure} (off ÷ off: {noise})"),
        at_most(
            "issue 6",
            "spooling a prediction, by throughput",
            median(each.cost for each in down.throughput),
            10,
            " µs",
        ),
        at_least(
            "issue 6",
            "events/s published by one core",
            median(each.wall for each in published),
            5_000,
        ),
    ]


def _notes(down: _Down) -> list[str]:
    all_turns = [*down.turns.off, *down.turns.on, *down.turns.again]
    share = median(turn.share for turn in all_turns)
    refused = f"while {down.refused} attempts to reach Fiddler were refused"
    turns = f"Latencies: medians over the least disturbed quarter of {len(all_turns)} turns"
    off = "Off ÷ off is of two processes that do the same: what it is away from 1 is noise."
    return [
        f"All {down.spooled:,} predictions were spooled, {refused}.",
        f"{turns} of {_TURN_SECONDS} s; in all, the loader had {share:.1%} of its core. {off}",
    ]


def _throughput_rows(rounds: Sequence[Rates]) -> Iterator[list[str]]:
    yield _row("requests/s, spool off", [each.off for each in rounds])
    yield _row("requests/s, spool on", [each.on for each in rounds])
    yield _row("on ÷ off", [each.ratio for each in rounds])
    yield _row("µs that spooling a prediction takes", [each.cost for each in rounds])


def _latency_rows(down: _Down) -> Iterator[list[str]]:
    turns = down.turns
    kinds = {"spool off": [*turns.off, *turns.again], "Fiddler down": turns.on}
    yield ["requests/s while latencies were measured", number_text(down.rate), ""]
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        for kind, those in kinds.items():
            quantiles = [float(np.quantile(one, share)) * 1e3 for one in undisturbed(those)]
            yield _row(f"{name} in ms, {kind}", quantiles)
    yield ["p99, Fiddler down ÷ spool off", number_text(turns.ratio), ""]
    yield ["the same, of all requests of these turns together", number_text(turns.together), ""]
    yield ["p99, spool off ÷ spool off in another process", number_text(turns.noise), ""]


def _published_rows(kind: str, speeds: Sequence[Speed]) -> Iterator[list[str]]:
    yield _row(f"published {kind}/s", [each.wall for each in speeds])
    yield _row(
        f"published {kind} per s of the publisher's processor time",
        [each.processor for each in speeds],
    )
