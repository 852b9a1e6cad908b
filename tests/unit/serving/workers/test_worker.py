"""A worker tells the master that it lives, and ends soon after the master."""

import asyncio
import logging
import os
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from serving.metrics.exposition import Exposition
from serving.metrics.loop_lag import LoopLag
from serving.workers import worker as module
from serving.workers.worker import Worker
from tests.support.model import parse, select, total


class Config:
    """The part of uvicorn's configuration that is used."""

    timeout_graceful_shutdown = 600


@pytest.fixture(name="worker")
def _worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """Return a worker of this process's parent, which did not boot."""
    monkeypatch.setattr(module, "_NOTIFY_SECONDS", 0.001)
    worker: Worker = object.__new__(Worker)
    worker.ppid = os.getppid()
    worker.config = Config()
    state = SimpleNamespace(loop_lag=LoopLag(tmp_path), catch_up=lambda: None)
    worker.wsgi = SimpleNamespace(state=state)
    return worker


def test_a_worker_notifies_whatever_the_clock_says(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock goes back an hour at each look; the master would kill a worker that is silent.

    After each pause it does what no request waits for.
    """
    hours = count(1_800_000_000, -3600)
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    notified: list[None] = []
    worker.notify = lambda: notified.append(None)
    caught_up: list[None] = []
    worker.wsgi.state.catch_up = lambda: caught_up.append(None)

    async def live() -> None:
        task = asyncio.create_task(worker.notify_master())
        while len(notified) < 5:  # noqa: ASYNC110 the condition has no event
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(asyncio.wait_for(live(), timeout=60))
    assert len(caught_up) == len(notified) - 1


def test_a_worker_lives_on_if_it_cannot_catch_up(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as with a disk that fails: the master would kill a worker that is silent."""
    monkeypatch.setattr(module, "_NOTIFY_SECONDS", 0.001)
    monkeypatch.setattr(module, "_stop", lambda: None)
    monkeypatch.setattr(module, "_exit", lambda: None)
    monkeypatch.setattr(module, "_ORPHAN_SECONDS", 0.001)
    monkeypatch.setattr(module, "_ORPHAN_MARGIN_SECONDS", 0)
    notified: list[None] = []

    def notify() -> None:
        notified.append(None)
        worker.ppid = os.getppid() if len(notified) < 3 else -1

    def fail() -> None:
        raise OSError("no space left on device")

    worker.notify = notify
    worker.log = logging.getLogger("test")
    worker.wsgi.state.catch_up = fail
    asyncio.run(worker.notify_master())

    assert len(notified) == 3
    assert "no space left on device" in caplog.text


def test_the_clock_of_uvicorn_notifies_nobody() -> None:
    """It would, by the wall clock, as well."""
    assert Worker.CONFIG_KWARGS["callback_notify"] is None


def test_a_worker_without_a_master_stops_and_then_ends(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First it finishes requests, for a short time; then it ends, whatever they do."""
    done: list[str] = []
    monkeypatch.setattr(module, "_stop", lambda: done.append("stop"))
    monkeypatch.setattr(module, "_exit", lambda: done.append("exit"))
    monkeypatch.setattr(module, "_ORPHAN_SECONDS", 0.001)
    monkeypatch.setattr(module, "_ORPHAN_MARGIN_SECONDS", 0)
    worker.ppid = -1
    asyncio.run(worker.notify_master())

    assert done == ["stop", "exit"]
    assert worker.config.timeout_graceful_shutdown == 0.001


@pytest.mark.parametrize(
    ("woken", "expected"),
    [(103.5, (2.5, "+Inf")), (101.004, (0.004, "0.005")), (100.999, (0, "0.0025"))],
    ids=["a blocked loop", "a busy loop", "an early timer"],
)
def test_a_worker_measures_how_late_its_loop_is(
    worker: Worker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    woken: float,
    expected: tuple[float, str],
) -> None:
    """It falls asleep for a second at 100 and wakes later, or a little earlier."""
    monkeypatch.setattr(module, "_NOTIFY_SECONDS", 1.0)
    monkeypatch.setattr(module, "time", Clock(100.0, woken))
    monkeypatch.setattr(asyncio, "sleep", _return_at_once)
    for name in ("_stop", "_exit"):
        monkeypatch.setattr(module, name, lambda: None)
    worker.notify = lambda: setattr(worker, "ppid", -1)
    asyncio.run(worker.notify_master())

    page = parse(Exposition(tmp_path).text())
    family = "service_event_loop_lag_seconds"
    filled = [dict(labels)["le"] for labels, n in select(page, f"{family}_bucket").items() if n]
    assert (round(total(page, f"{family}_sum"), 9), filled[0]) == expected


class Clock:
    """A clock that says what a test wants."""

    def __init__(self, *times: float) -> None:
        self._times = iter(times)

    def monotonic(self) -> float:
        """Return the next time."""
        return next(self._times)


async def _return_at_once(_seconds: float) -> None:
    pass
