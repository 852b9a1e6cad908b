"""The family that counts what ended at a limit of the protocol, not in a handler."""

from pathlib import Path

from serving.metrics.slots import Layout

REASONS = (
    *("malformed", "head_too_large", "head_timeout", "body_timeout", "answer_timeout"),
    *("connections", "memory", "overload"),
)


class Rejections:
    """Requests and connections that this worker rejected, by reason; all at 0 from the start."""

    def __init__(self, directory: Path) -> None:
        counters = Layout("counter")
        self._slots = {
            reason: counters.counter(
                "http_rejections",
                "Requests that were rejected and connections that were closed at a limit.",
                {"reason": reason},
            )
            for reason in REASONS
        }
        self._counters = counters.create(directory, "rejections")

    def count(self, reason: str) -> None:
        """Count one."""
        self._counters.increment(self._slots[reason], 1)
