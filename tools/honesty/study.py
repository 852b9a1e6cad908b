"""Run every rule over the streams: false alarms without drift, hours to the alarm with it."""

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.pairs import describe_pair
from bundle.reference import describe
from serving.metrics.repeats import SPANS, Repeats
from tools import ROOT
from tools.honesty.rules import (
    DAY,
    HOUR,
    THRESHOLDS,
    WEEK,
    Correlation,
    Interval,
    Minutes,
    Statistics,
    Training,
    divergence,
    pair_alerts,
    signal_alerts,
    smooth,
)
from tools.honesty.streams import CHANGES, TRAFFIC, Change, Rows, Traffic

SEED = 3
CONVENTION = 0.2
# A service's age in minutes when the change comes.
AGES = {"at once": 0, "6 hours": 6 * HOUR, "25 hours": 25 * HOUR, "8 days": 8 * DAY}
# Other rules do not depend on the age.
AGE_OF_PEERS = "25 hours"
OURS, FIXED = "this project", f"PSI > {CONVENTION} h"

PEERS = Path(__file__).with_name("peers.py")
VENV = ROOT / "var" / "honesty" / "venv"

Alarms = dict[str, list[list[Interval]]]


@dataclass(frozen=True)
class Size:
    """How much is simulated."""

    traffic: Sequence[Traffic] = TRAFFIC
    changes: Sequence[Change] = CHANGES
    ages: Sequence[str] = tuple(AGES)
    days: int = 30
    # Signals of each stream without drift; streams, of two signals each, of each change.
    signals: int = 12
    streams: int = 12

    @property
    def signals_changed(self) -> int:
        """Return the number of signals per change and age."""
        return 2 * self.streams


QUICK = Size(
    traffic=[each for each in TRAFFIC if each.name in {"independent rows", "repeats at once"}],
    changes=[each for each in CHANGES if each.name == "mean +1 σ"],
    ages=("at once", AGE_OF_PEERS),
    days=2,
    signals=2,
    streams=2,
)


@dataclass(frozen=True)
class Stream:
    """A stream of rows, training rows, and a way to draw the week of clean traffic before it."""

    rows: Rows
    minutes: int
    training: Floats
    draw_before: Callable[[], Rows]
    has_repeats: bool = False
    has_correlation: bool = False


@dataclass
class Study:
    """What was found.

    `false` has, by traffic and rule, each signal's alarms; `delays` has, by change, rule and
    signal, the hours from the change to the alarm, infinite where none came.
    """

    size: Size
    versions: dict[str, str] = field(default_factory=dict)
    false: dict[str, Alarms] = field(default_factory=dict)
    delays: dict[str, dict[str, list[float]]] = field(default_factory=dict)


def undrifted(traffic: Traffic, size: Size) -> Stream:
    """Return a stream that does not drift."""
    random = np.random.default_rng([SEED, *traffic.name.encode()])
    minutes = size.days * DAY
    return Stream(
        rows=traffic.draw(random, minutes, size.signals),
        minutes=minutes,
        training=traffic.train(random, size.signals),
        draw_before=lambda: traffic.draw(random, WEEK, size.signals),
        has_repeats=traffic.repeats,
    )


def changed(change: Change, age: int, number: int, streams: int) -> tuple[Stream, int]:
    """Return a stream that changes, and at which minute: at any hour of the day, at any minute."""
    random = np.random.default_rng([SEED, age, number, *change.name.encode()])
    traffic = Traffic(change.name, correlation=change.correlation)
    at = age + (number * DAY // streams + 7 * number if age > DAY else 0)
    minutes = at + change.days * DAY
    rows = change.apply(random, traffic.draw(random, minutes, 2), at)
    stream = Stream(
        rows=rows,
        minutes=minutes,
        training=traffic.train(random, 2),
        draw_before=lambda: traffic.draw(random, WEEK, 2),
        has_correlation=bool(change.correlation),
    )
    return stream, at


def count(stream: Stream) -> Iterator[tuple[Minutes, Training]]:
    """Yield what the service would count of each signal, and its reference."""
    repeats = _repeats(stream) if stream.has_repeats else {}
    for values, trained in zip(stream.rows.values.T, stream.training.T, strict=True):
        reference = describe("signal", trained)
        bins = len(reference.bins)
        index = np.searchsorted(reference.edges, values, side="right")
        z = (values - reference.mean) / reference.sigma
        counts = _per_minute(stream, bins=bins, index=index).reshape(-1, bins)
        kurtosis = float((((trained - reference.mean) / reference.sigma) ** 4).mean())
        training = Training(np.array([float(each.count) for each in reference.bins]), kurtosis)
        yield (
            Minutes(counts, _per_minute(stream, z), _per_minute(stream, z**2), repeats),
            training,
        )


def _per_minute(
    stream: Stream,
    weights: Floats | None = None,
    *,
    bins: int = 1,
    index: NDArray[np.intp] | int = 0,
) -> Floats:
    cell = stream.rows.minute * bins + index
    return np.bincount(cell, weights, stream.minutes * bins).astype(float)


def _repeats(stream: Stream) -> dict[str, Floats]:
    """Return how many earlier occurrences the service counts in each minute, by window."""
    found: dict[str, Floats] = {span: np.zeros(stream.minutes) for span in SPANS}
    starts = np.searchsorted(stream.rows.minute, np.arange(1, stream.minutes))
    with tempfile.TemporaryDirectory() as directory, patch("time.monotonic") as clock:
        memory = Repeats(Path(directory), stream.rows.values.shape[1])
        for minute, rows in enumerate(np.split(stream.rows.values, starts)):
            clock.return_value = 60.0 * minute
            memory.add(rows)
            for span, earlier in memory.count().items():
                found[span][minute] = earlier
    return found


def own_alarms(stream: Stream) -> Alarms:
    """Return by rule and signal when this project's alerts fire, and PSI > 0.2 by the hour.

    An alert about a pair counts for both of its signals.
    """
    counted = [*count(stream)]
    series = [Statistics(minutes, training) for minutes, training in counted]
    own = [[each for alert in signal_alerts(one).values() for each in alert] for one in series]
    for first, pair in pairs(stream, series):
        alarms = pair_alerts(pair)
        for signal in (first, first + 1):
            own[signal] += alarms
    return {OURS: [sorted(each) for each in own], FIXED: [_fixed(*each) for each in counted]}


def pairs(stream: Stream, series: Sequence[Statistics]) -> Iterator[tuple[int, Correlation]]:
    """Yield the pairs of neighbouring signals with the number of the first one.

    Also those that are too weakly correlated for a bundle to name them.
    """
    mean, sigma = stream.training.mean(axis=0), stream.training.std(axis=0)
    z, trained = (stream.rows.values - mean) / sigma, (stream.training - mean) / sigma
    for first in range(0, z.shape[1] - 1, 2):
        names = f"s{first}", f"s{first + 1}"
        training = describe_pair(names, trained[:, first], trained[:, first + 1])
        products = _per_minute(stream, z[:, first] * z[:, first + 1])
        yield first, Correlation((series[first], series[first + 1]), products, training)


def _fixed(minutes: Minutes, training: Training) -> list[Interval]:
    """Return when PSI of the last whole hour exceeds the convention of credit scoring."""
    hours = len(minutes.counts) // HOUR
    counts = minutes.counts[: hours * HOUR].reshape(hours, HOUR, -1).sum(axis=1)
    chunks = np.flatnonzero(divergence(smooth(counts), training.ratio) > CONVENTION).tolist()
    return held(chunks, HOUR, len(minutes.counts))


def held(chunks: Sequence[int], minutes: int, end: int) -> list[Interval]:
    """Return the alarms of whole chunks: from the end of a chunk to that of the next one.

    By the hour, they are kept as this project's are, so that episodes are counted alike.
    """
    ends = [(number + 1) * minutes for number in chunks]
    lasting = max(minutes, HOUR + THRESHOLDS.keep_firing_for)
    return [(each, each + lasting) for each in ends if each <= end]


def episodes(alarms: Sequence[Interval]) -> list[int]:
    """Return when each episode starts, and when each further day of it does.

    Alarms that overlap are one. Without the days, an alarm that never ends would be the best.
    """
    starts: list[int] = []
    until = -1
    for start, end in sorted(alarms):
        if start > until:
            starts.append(start)
        until = max(until, end)
        starts += range(starts[-1] + DAY, until, DAY)
    return starts


class Peers:
    """The packages in their own environment, asked one stream at a time.

    Answers are kept in the directory, by rows and versions: they do not depend on this project's
    rules. Delete them after a change of peers.py.
    """

    def __init__(self, process: subprocess.Popen[str], directory: Path) -> None:
        self._process = process
        self._directory = directory
        self.versions: dict[str, str] = self._answer()

    def alarms(self, stream: Stream) -> Alarms:
        """Return by rule and signal when the packages alarm. Once for each stream."""
        before = stream.draw_before()
        content: dict[str, NDArray[Any]] = {
            "training": stream.training,
            "values": stream.rows.values.astype(np.float32),
            "minute": stream.rows.minute,
            "reference": before.values.astype(np.float32),
            "reference_minute": before.minute - WEEK,
            "joint": np.array(stream.has_correlation),
        }
        return {
            rule: [
                held(chunks, DAY if rule.endswith(" d") else HOUR, stream.minutes)
                for chunks in signals
            ]
            for rule, signals in self._ask(content).items()
        }

    def _ask(self, content: dict[str, NDArray[Any]]) -> dict[str, list[list[int]]]:
        key = hashlib.sha256(json.dumps(self.versions).encode())
        for each in content.values():
            key.update(each.tobytes())
        known = self._directory / f"{key.hexdigest()[:32]}.json"
        if not known.exists():
            with tempfile.NamedTemporaryFile(dir=self._directory, suffix=".npz") as file:
                np.savez(file, allow_pickle=False, **content)
                file.flush()
                print(file.name, file=_open(self._process.stdin), flush=True)
                known.write_text(json.dumps(self._answer()), "utf-8")
        answer: dict[str, list[list[int]]] = json.loads(known.read_text("utf-8"))
        return answer

    def _answer(self) -> Any:  # noqa: ANN401 what JSON holds
        line = _open(self._process.stdout).readline()
        if not line:
            raise RuntimeError("the peers' process ended; its error is above")
        return json.loads(line)


def _open(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("the process has no pipe")
    return pipe


@contextmanager
def peers(venv: Path = VENV) -> Iterator[Peers]:
    """Start the peers. Raises FileNotFoundError where they are not installed."""
    with subprocess.Popen(
        [venv / "bin" / "python", PEERS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Peers(process, venv.parent)
        _open(process.stdin).close()


def run(size: Size, others: Peers | None) -> Study:
    """Simulate all of it."""
    study = Study(size, others.versions if others else {})
    for traffic in size.traffic:
        print(f"honesty: {traffic.name}", file=sys.stderr)
        stream = undrifted(traffic, size)
        study.false[traffic.name] = own_alarms(stream) | (others.alarms(stream) if others else {})
    for change in size.changes:
        print(f"honesty: {change.name}", file=sys.stderr)
        study.delays[change.name] = _delays(change, size, others)
    return study


def _delays(change: Change, size: Size, others: Peers | None) -> dict[str, list[float]]:
    hours: dict[str, list[float]] = {}
    for age in size.ages:
        for number in range(size.streams):
            stream, at = changed(change, AGES[age], number, size.streams)
            own = own_alarms(stream)
            found = {f"{OURS}, {age}": own[OURS]}
            if age == AGE_OF_PEERS:
                found[FIXED] = own[FIXED]
                found |= others.alarms(stream) if others else {}
            for rule, signals in found.items():
                hours.setdefault(rule, []).extend(first_after(at, each) for each in signals)
    return hours


def first_after(at: int, alarms: Sequence[Interval]) -> float:
    """Return the hours from minute `at` to the next alarm, infinity where none comes."""
    return min(((start - at) / HOUR for start, _ in alarms if start >= at), default=float("inf"))
