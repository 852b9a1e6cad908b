"""Wait for conditions instead of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def eventually(check: Callable[[], T | None], what: str, timeout: float = 60.0) -> T:
    """Return the first truthy result of `check`, called every 0.1 s for up to `timeout` seconds.

    An httpx.TransportError counts as "not yet"; any other exception is raised.
    """
    deadline = time.monotonic() + timeout
    last: object = None
    pause = threading.Event()
    while time.monotonic() < deadline:
        try:
            result = check()
        except httpx.TransportError as error:
            last = error
        else:
            if result:
                return result
            last = result
        pause.wait(0.1)
    raise AssertionError(f"timed out after {timeout:g} s: {what} (last result: {last!r})")
