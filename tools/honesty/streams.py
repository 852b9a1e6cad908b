"""Seeded traffic: rows of several signals by the minute, and what happens to them.

Signals are normal with σ = 1 unless a pattern says otherwise. Arrays are rows (n, signals) with the
minute in which each came (n,), in order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats

Random = np.random.Generator

ROWS_PER_MINUTE = 60
TRAINING_ROWS = 1_282
DAY = 1_440

REPEATS = 10
BURST_ROWS = 20
BURST_MINUTES = 5
# The share of the variance that the rows of one user have in common.
USER_VARIANCE = 0.5

CYCLE = 0.5
WEEKEND = 0.5
WANDERING = 0.1
WANDERING_MINUTES = DAY


class Rows(NamedTuple):
    """Rows (n, signals) and the minute of each (n,)."""

    minute: NDArray[np.int64]
    values: Floats

    def in_minutes(self, minutes: int) -> "Rows":
        """Return the rows of the first minutes, in order."""
        order = np.argsort(self.minute, kind="stable")
        order = order[self.minute[order] < minutes]
        return Rows(self.minute[order], self.values[order])


Arrivals = Callable[[Random, int, int], Rows]
Pattern = Callable[[Random, int, int], Floats]


def _arrivals(random: Random, minutes: int, rows_each: int = 1) -> NDArray[np.int64]:
    """Return the minute of each arrival of a Poisson process."""
    return np.repeat(np.arange(minutes), random.poisson(ROWS_PER_MINUTE / rows_each, minutes))


def singly(random: Random, minutes: int, signals: int) -> Rows:
    """Draw rows that have nothing to do with each other."""
    minute = _arrivals(random, minutes)
    return Rows(minute, random.standard_normal((len(minute), signals)))


def in_bursts(random: Random, minutes: int, signals: int) -> Rows:
    """Draw users who each send similar rows within a few minutes."""
    starts = _arrivals(random, minutes, BURST_ROWS)
    minute = np.repeat(starts, BURST_ROWS)
    minute += random.integers(BURST_MINUTES, size=len(minute))
    users = random.standard_normal((len(starts), signals)) * USER_VARIANCE**0.5
    own = random.standard_normal((len(minute), signals)) * (1 - USER_VARIANCE) ** 0.5
    return Rows(minute, np.repeat(users, BURST_ROWS, axis=0) + own).in_minutes(minutes)


def in_succession(random: Random, minutes: int, signals: int) -> Rows:
    """Draw rows that are each sent several times in the same minute."""
    return _repeated(random, minutes, signals, spread=1)


def over_the_hour(random: Random, minutes: int, signals: int) -> Rows:
    """Draw rows that are each sent several times within an hour."""
    return _repeated(random, minutes, signals, spread=60)


def _repeated(random: Random, minutes: int, signals: int, *, spread: int) -> Rows:
    starts = _arrivals(random, minutes, REPEATS)
    minute = np.repeat(starts, REPEATS)
    minute += random.integers(spread, size=len(minute))
    values = random.standard_normal((len(starts), signals))
    return Rows(minute, np.repeat(values, REPEATS, axis=0)).in_minutes(minutes)


def steady(_: Random, minutes: int, signals: int) -> Floats:
    """Return a mean of 0 at every minute (minutes, signals)."""
    return np.zeros((minutes, signals))


def daily(random: Random, minutes: int, signals: int) -> Floats:
    """Return a mean that goes up and down every day, at a different hour for each signal."""
    phase = random.uniform(0, 2 * np.pi, signals)
    return CYCLE * np.sin(2 * np.pi * np.arange(minutes)[:, None] / DAY + phase)


def weekly(_: Random, minutes: int, signals: int) -> Floats:
    """Return a mean that is higher on two days of seven; the first day is a Monday."""
    is_weekend = np.arange(minutes) // DAY % 7 >= 5  # noqa: PLR2004 Saturday
    return np.repeat(WEEKEND * is_weekend[:, None], signals, axis=1)


def wandering(random: Random, minutes: int, signals: int) -> Floats:
    """Return a mean that follows an autoregressive process of first order."""
    memory = float(np.exp(-1 / WANDERING_MINUTES))
    steps = random.standard_normal((minutes, signals)) * WANDERING * (1 - memory**2) ** 0.5
    mean = np.empty((minutes, signals))
    last = random.standard_normal(signals) * WANDERING
    for minute, step in enumerate(steps):
        last = mean[minute] = memory * last + step
    return mean


@dataclass(frozen=True)
class Traffic:
    """Undrifted traffic: how rows come, and how their mean moves."""

    name: str
    arrive: Arrivals = singly
    mean: Pattern = steady
    correlation: float = 0.0

    @property
    def repeats(self) -> bool:
        """Tell whether equal rows come."""
        return self.arrive in {in_succession, over_the_hour}

    def draw(self, random: Random, minutes: int, signals: int) -> Rows:
        """Draw the rows of some minutes."""
        rows = self.arrive(random, minutes, signals)
        values = rows.values
        if self.correlation:
            values = correlate(values, self.correlation)
        if self.mean is not steady:
            values = values + self.mean(random, minutes, signals)[rows.minute]
        return Rows(rows.minute, values)

    def train(self, random: Random, signals: int) -> Floats:
        """Draw training rows (rows, signals) from random minutes of four weeks."""
        values = random.standard_normal((TRAINING_ROWS, signals))
        if self.correlation:
            values = correlate(values, self.correlation)
        minutes = 28 * DAY
        when = random.integers(minutes, size=TRAINING_ROWS)
        return values + self.mean(random, minutes, signals)[when]


def correlate(values: Floats, correlation: float) -> Floats:
    """Return rows whose odd signals correlate with the even one before them."""
    result = values.copy()
    own = (1 - correlation**2) ** 0.5
    result[:, 1::2] = correlation * values[:, 0::2] + own * values[:, 1::2]
    return result


Effect = Callable[[Random, Floats, Floats], Floats]


@dataclass(frozen=True)
class Change:
    """Something that happens to rows: `effect(random, values, days since then)`."""

    name: str
    effect: Effect
    correlation: float = 0.0
    days: int = 2

    def apply(self, random: Random, rows: Rows, at: int) -> Rows:
        """Return rows that change at minute `at`."""
        values, after = rows.values.copy(), rows.minute >= at
        days = (rows.minute[after, None] - at) / DAY
        values[after] = self.effect(random, values[after], days)
        return Rows(rows.minute, values)


def shift(sigmas: float, share: float = 1.0) -> Effect:
    """Move the mean, of all rows or of a random share of them."""

    def effect(random: Random, values: Floats, _: Floats) -> Floats:
        return values + sigmas * _chosen(random, values, share)

    return effect


def scale(factor: float) -> Effect:
    """Multiply the variance."""
    return lambda _, values, __: values * factor**0.5


def stick(share: float) -> Effect:
    """Replace a random share of rows by one value, the last before the sensor got stuck."""

    def effect(random: Random, values: Floats, _: Floats) -> Floats:
        return np.where(_chosen(random, values, share), values[:1], values)

    return effect


# The values of a signal whose unit changes are this many σ above 0 on average.
LEVEL = 4


def multiply(factor: float, share: float = 1.0) -> Effect:
    """Give a random share of rows in another unit."""

    def effect(random: Random, values: Floats, _: Floats) -> Floats:
        wrong = factor * (values + LEVEL) - LEVEL
        return np.where(_chosen(random, values, share), wrong, values)

    return effect


def creep(sigmas: float) -> Effect:
    """Move the mean by so many σ a day."""
    return lambda _, values, days: values + sigmas * days


def decorrelate(before: float, after: float) -> Effect:
    """Change the correlation of each pair of signals, and the distribution of none."""

    def effect(_: Random, values: Floats, __: Floats) -> Floats:
        own = (values[:, 1::2] - before * values[:, 0::2]) / (1 - before**2) ** 0.5
        return correlate(np.stack([values[:, 0::2], own], axis=2).reshape(values.shape), after)

    return effect


def _chosen(random: Random, values: Floats, share: float) -> NDArray[np.bool_]:
    """Choose rows (n, 1)."""
    return random.random((len(values), 1)) < share


TRAFFIC = (
    Traffic("independent rows"),
    Traffic("daily cycle", mean=daily),
    Traffic("weekends", mean=weekly),
    Traffic("wandering mean", mean=wandering),
    Traffic("bursts of a user", arrive=in_bursts),
    Traffic("repeats at once", arrive=in_succession),
    Traffic("repeats in an hour", arrive=over_the_hour),
)
CHANGES = (
    Change("mean +0.25 σ", shift(0.25)),
    Change("mean +0.5 σ", shift(0.5)),
    Change("mean +1 σ", shift(1.0)),
    Change("variance × 1.5", scale(1.5)),
    Change("variance × 0.7", scale(0.7)),
    Change("10 % stuck", stick(0.1)),
    Change("30 % stuck", stick(0.3)),
    Change("unit × 10", multiply(10)),
    Change("unit × 10 in 5 %", multiply(10, 0.05)),
    Change("+0.05 σ a day", creep(0.05), days=28),
    Change("+2 σ in 10 %", shift(2.0, 0.1)),
    Change("correlation .6 → .3", decorrelate(0.6, 0.3), correlation=0.6),
)
