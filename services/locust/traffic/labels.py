"""The labels that clients send later, for a share of the predictions."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

from traffic.values import Value

# The maximum number of labels per request.
BATCH = 1_000
# Labels that become due within this time are sent together.
BATCH_SECONDS = 5.0
# Sufficient for about 15 hours of one client's predictions at 2 requests/s.
MAX_PENDING = 100_000


class _Pending(NamedTuple):
    due: float
    label: dict[str, object]


@dataclass
class Labels:
    """The pending labels of one client, which are lost when the client stops."""

    share: float
    delay: float
    shift: Callable[[Value], Value]
    rng: Random
    _pending: deque[_Pending] = field(default_factory=deque)
    _next_batch: float = 0.0

    def add(self, prediction_id: str, actual: Value, now: float) -> None:
        """Store the label of a prediction, with a probability of `share`."""
        # The newest label is dropped if there are too many; otherwise none might become due.
        if self.rng.random() < self.share and len(self._pending) < MAX_PENDING:
            label: dict[str, object] = {
                "prediction_id": prediction_id,
                "actual": self.shift(actual),
            }
            self._pending.append(_Pending(now + self.delay, label))

    def due(self, now: float) -> list[dict[str, object]]:
        """Remove and return the labels whose delay is over, at most once per BATCH_SECONDS."""
        labels: list[dict[str, object]] = []
        while now >= self._next_batch and self._is_due(now) and len(labels) < BATCH:
            labels.append(self._pending.popleft().label)
        if labels:
            self._next_batch = now + BATCH_SECONDS
        return labels

    def _is_due(self, now: float) -> bool:
        return bool(self._pending) and self._pending[0].due <= now
