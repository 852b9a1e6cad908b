"""Why a batch was not accepted: retry it, reject it, or stop."""

from typing import Literal, get_args

Cause = Literal[
    "connection",
    "timeout",
    "throttled",
    "server_error",
    "protocol",
    "not_found",
    "conflict",
    "baseline",
    "peer",
    "storage",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)

Reason = Literal["denied", "not_found", "organisation", "incompatible", "schema", "rejected"]
REASONS: tuple[Reason, ...] = get_args(Reason)

# Reasons that concern one model: the events of other models are still published.
OF_ONE_MODEL: tuple[Reason, ...] = ("schema", "rejected")


class TransientError(Exception):
    """A retry may succeed. `wait` is the minimum pause in seconds that the server asked for."""

    def __init__(self, cause: Cause, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.cause = cause
        self.wait = wait


class RejectedError(Exception):
    """The destination rejects these events, except those whose ids are in `accepted`.

    The message is the destination's; it may contain values of rows, so it must not be logged.
    """

    def __init__(self, status: int, message: str, accepted: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.status = status
        self.accepted = accepted


class UnknownModelError(RejectedError):
    """The destination has no such model, and no registered header describes it."""


class StoppedError(Exception):
    """Nothing is published until the configuration error in the message is fixed.

    The publisher tries again every 10 to 15 minutes.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class InterruptedByStop(BaseException):
    """A stop signal arrived. Not an Exception, so that no handler in a client swallows it."""
