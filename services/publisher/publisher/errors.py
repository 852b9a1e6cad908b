"""What can become of a batch that was not accepted."""

from typing import Literal, get_args

Cause = Literal["connection", "timeout", "throttled", "server_error", "protocol", "not_found"]
CAUSES: tuple[Cause, ...] = get_args(Cause)

Reason = Literal["denied", "organisation", "incompatible", "schema"]
REASONS: tuple[Reason, ...] = get_args(Reason)


class TransientError(Exception):
    """It may work later. `wait` is the least pause in seconds, where the server asked for one."""

    def __init__(self, cause: Cause, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.cause = cause
        self.wait = wait


class RefusedError(Exception):
    """Fiddler will never take these events; the message is Fiddler's words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class HopelessError(Exception):
    """Nothing can be published until a person changes something; the message says what."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InterruptedByStop(BaseException):
    """The publisher is to stop: not an Exception, so that no client's handler swallows it."""
