"""How many connections each worker holds, in memory that all of them share."""

import mmap

import numpy as np
from numpy.typing import NDArray

# As many workers may live at once; a reload needs twice as many as are set.
_SEATS = 1024
_BYTES = 4


class Seat:
    """One worker's place in the shared memory. Not safe between threads; between processes it is.

    While its worker listens, it is one more than the connections that this worker holds; else it is
    below 1, and counts for nobody.
    """

    def __init__(self, seats: NDArray[np.int32], number: int) -> None:
        self._seats = seats
        self._number = number

    def take(self) -> None:
        """Listen, as yet without a connection."""
        self._seats[self._number] = 1

    def leave(self) -> None:
        """Listen no more."""
        self._seats[self._number] = 0

    def add(self, connections: int) -> None:
        """Hold so many connections more."""
        self._seats[self._number] += connections

    @property
    def is_ahead(self) -> bool:
        """Whether some other worker that listens holds fewer, by more than an eighth."""
        fewest = int(self._seats.min(where=self._seats > 0, initial=np.iinfo(np.int32).max)) - 1
        return int(self._seats[self._number]) - 1 > fewest + fewest // 8


class Seats:
    """The seats of all workers. Made by gunicorn's master, and inherited by every worker."""

    def __init__(self) -> None:
        self._seats = np.frombuffer(mmap.mmap(-1, _SEATS * _BYTES), dtype=np.int32)

    def of(self, age: int) -> Seat:
        """Return the seat of the worker that was started as number `age`."""
        return Seat(self._seats, age % _SEATS)
