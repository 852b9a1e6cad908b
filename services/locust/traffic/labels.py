"""The true values that come back later, for a share of the predictions."""

from collections import deque
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple

# As many as one request may hold.
BATCH = 1_000
# Labels due within these seconds of each other go back together.
BATCH_SECONDS = 5.0
# Memory for about 15 hours of one client's predictions at 2 requests a second.
MAX_OWED = 100_000


class _Owed(NamedTuple):
    due: float
    label: dict[str, object]


@dataclass
class Labels:
    """The labels that one client owes the service; they are lost when the client stops."""

    share: float
    delay: float
    shift: float
    rng: Random
    _owed: deque[_Owed] = field(default_factory=deque)
    _next_batch: float = 0.0

    def owe(self, prediction_id: str, actual: float, now: float) -> None:
        """Keep the true value of a prediction, if it is among the share that comes back."""
        # Full: the newest is dropped, for the oldest would never become due.
        if self.rng.random() < self.share and len(self._owed) < MAX_OWED:
            label = {"prediction_id": prediction_id, "actual": actual + self.shift}
            self._owed.append(_Owed(now + self.delay, label))

    def due(self, now: float) -> list[dict[str, object]]:
        """Hand over the labels whose delay is over, at most every BATCH_SECONDS."""
        labels: list[dict[str, object]] = []
        while now >= self._next_batch and self._is_due(now) and len(labels) < BATCH:
            labels.append(self._owed.popleft().label)
        if labels:
            self._next_batch = now + BATCH_SECONDS
        return labels

    def _is_due(self, now: float) -> bool:
        return bool(self._owed) and self._owed[0].due <= now
