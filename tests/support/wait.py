"""Wait for conditions instead of sleeping."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def eventually(check: Callable[[], T | None], what: str, timeout: float = 60.0) -> T:
    """Return the first truthy result of `check`, asked every 0.1 s for `timeout` seconds.

    A server that does not answer yet counts as "not yet"; any other exception goes through.
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
    raise AssertionError(f"after {timeout:g} s still not: {what} (last: {last!r})")
