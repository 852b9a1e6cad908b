"""How late a worker is, turn by turn of its event loop."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from serving.overload import Load, OverloadError

LIMIT = 10.0


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        """Return its time."""
        return self.now


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("serving.overload.time", clock)
    return clock


@pytest.fixture(
    name="new_loop",
    params=[asyncio.new_event_loop, uvloop.new_event_loop],
    ids=["asyncio", "uvloop"],
)
def _new_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    create: Callable[[], asyncio.AbstractEventLoop] = request.param
    return create


def test_a_request_in_time_is_served(
    clock: Clock, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """However long the worker had nothing to do, and however long a body took."""

    async def serve() -> None:
        load = Load(LIMIT)
        load.check()
        for _ in range(3):
            load.begin_turn()
            load.check()
            await asyncio.sleep(0)
            clock.now += LIMIT - 1
            load.check()
            for _ in range(3):
                await asyncio.sleep(0)
            clock.now += 1_000
            load.check()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(serve())


def test_a_request_behind_others_of_its_turn_is_rejected(
    clock: Clock, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Those that were served first were in time."""

    async def serve() -> list[bool]:
        load = Load(LIMIT)
        served = []

        def handle() -> None:
            served.append(_is_in_time(load))
            clock.now += LIMIT / 2

        load.begin_turn()
        for _ in range(5):
            asyncio.get_running_loop().call_soon(handle)
        await asyncio.sleep(0)
        return served

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(serve()) == [True, True, True, False, False]


def test_a_request_that_waited_for_the_turn_before_is_rejected(
    clock: Clock, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """It may have arrived when that turn began. The turn after an empty one is in time again."""

    async def serve() -> list[bool]:
        load = Load(LIMIT)
        load.begin_turn()
        await asyncio.sleep(0)
        clock.now += 2 * LIMIT
        load.begin_turn()
        found = [_is_in_time(load)]
        for _ in range(4):
            await asyncio.sleep(0)
        load.begin_turn()
        return [*found, _is_in_time(load)]

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(serve()) == [False, True]


def _is_in_time(load: Load) -> bool:
    try:
        load.check()
    except OverloadError:
        return False
    return True
