"""How long a worker's event loop takes until it gets to something new: its queue, as time."""

from bisect import bisect_left
from pathlib import Path

from serving.metrics.slots import Layout

# In seconds. An idle loop's timers are up to 1 ms late; at the last one a worker sheds load.
BOUNDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class LoopLag:
    """A histogram of the delays of a timer, which the worker has anyway."""

    def __init__(self, directory: Path) -> None:
        layout = Layout("histogram")
        layout.histogram(
            "service_event_loop_lag_seconds",
            "How late a worker's event loop ran a timer, once a second.",
            {},
            BOUNDS,
        )
        self._slots = layout.create(directory, "loop")

    def observe(self, seconds: float) -> None:
        """Add a delay; a timer that was early, by its rounding, was not late."""
        late = max(seconds, 0.0)
        self._slots.increment(bisect_left(BOUNDS, late), 1)
        self._slots.increment(len(BOUNDS) + 1, late)
