"""Processor time of a function call, without a server."""

import time
from collections.abc import Callable
from statistics import median


def microseconds(call: Callable[[], object], rounds: int, seconds: float = 0.2) -> float:
    """Return the processor time per call in µs, the median over the rounds."""
    calls = _calls_in(call, seconds)
    return median(_timed(call, calls) / calls for _ in range(rounds)) * 1e6


def _calls_in(call: Callable[[], object], seconds: float) -> int:
    calls = 1
    while (taken := _timed(call, calls)) < seconds / 10:
        calls *= 2
    return max(1, int(calls * seconds / taken))


def _timed(call: Callable[[], object], calls: int) -> float:
    start = time.process_time()
    for _ in range(calls):
        call()
    return time.process_time() - start
