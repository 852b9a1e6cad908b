"""Sheds load: a worker that is late answers 503 at once instead of making everybody wait.

In one turn, the event loop reads what has arrived and serves all of it; what arrives meanwhile
waits for the next turn. So nobody has waited for longer than since the start of the turn before.
When that is too long ago, what is still to be served is rejected, which takes a fraction of the
time. A turn then lasts little longer than the limit, a request waits for two turns at most, and no
queue outlasts the overload.

A turn costs two callbacks, however many requests are in it.
"""

import asyncio
import time
from http import HTTPStatus

from serving.inputs import InvalidInputError, body_error

# The value of Retry-After, in seconds: longer than it takes until a worker is in time again.
RETRY_AFTER = 1


class OverloadError(Exception):
    """The request is not served, because the worker has no capacity for it now."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Load:
    """Decides whether a worker is too late to serve a request. Not thread-safe."""

    def __init__(self, max_seconds: float) -> None:
        self.max_seconds = max_seconds
        self.is_in_turn = False
        # Whether the next turn directly follows one, and since when requests may have waited.
        self._follows = False
        self._began = self._waiting_since = 0.0

    def begin_turn(self) -> None:
        """Note the first request of a turn, when it has been read."""
        self.is_in_turn = True
        self._began = time.monotonic()
        if not self._follows:
            self._waiting_since = self._began
        asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Note that the turn's requests have been read, and others may wait from now on."""
        self.is_in_turn = False
        self._follows = True
        self._waiting_since = self._began
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        """Note whether the loop had something to read after it had served everything."""
        self._follows = self.is_in_turn

    def check(self) -> None:
        """Raise OverloadError if the worker is too late."""
        if self.is_in_turn or self._follows:
            late = time.monotonic() - self._waiting_since
            if late > self.max_seconds:
                raise OverloadError("overload")


def describe_overload() -> InvalidInputError:
    """Return the error of a shed request, which each protocol writes in its own form."""
    message = f"The service is overloaded: try again in {RETRY_AFTER} s"
    return body_error("overload", message, status_code=HTTPStatus.SERVICE_UNAVAILABLE)
