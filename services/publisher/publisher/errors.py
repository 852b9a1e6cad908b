"""Why a batch was not accepted: retry it, reject it, or stop."""

from typing import Literal, get_args

Cause = Literal["connection", "timeout", "throttled", "server_error", "protocol", "not_found"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

Reason = Literal["denied", "organisation", "incompatible", "schema"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class TransientError(Exception):
    """A retry may succeed. `wait` is the minimum pause in seconds that the server asked for."""

    def __init__(self, cause: Cause, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.cause = cause
        self.wait = wait


class RejectedError(Exception):
    """Fiddler will never accept these events; the message is Fiddler's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FatalError(Exception):
    """Nothing can be published until the configuration error in the message is fixed."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InterruptedByStop(BaseException):
    """A stop signal arrived. Not an Exception, so that no handler in a client swallows it."""
