"""The drift of the traffic: set by LOCUST_ROWS at the start, and switched while it runs."""

from collections.abc import Callable

from traffic.errors import TrafficError

OFF, DRIFTED, GRADUAL = MODES = ("off", "drifted", "gradual")


def mode_of(rows: str) -> str:
    """Return the initial drift mode for a value of LOCUST_ROWS."""
    return rows if rows in (DRIFTED, GRADUAL) else OFF


class Drift:
    """The current share of drifted rows, for all clients of a process.

    `clock` counts seconds.
    """

    def __init__(self, mode: str, gradual_seconds: float, clock: Callable[[], float]) -> None:
        self._gradual_seconds = gradual_seconds
        self._clock = clock
        self.switch(mode)

    def switch(self, mode: object, age: float = 0.0) -> None:
        """Switch to a mode that began `age` seconds ago. Raises TrafficError."""
        if mode not in MODES:
            raise TrafficError(f"{mode!r} is none of {', '.join(MODES)}")
        self.mode = str(mode)
        self._since = self._clock() - age

    @property
    def age(self) -> float:
        """Seconds since the last switch."""
        return self._clock() - self._since

    def share(self) -> float:
        """Return the share of drifted rows, in 0..1."""
        if self.mode == GRADUAL:
            return min(self.age / self._gradual_seconds, 1.0)
        return float(self.mode == DRIFTED)
