"""Every row is counted once, whatever happens to scrapes, processes and replicas.

A Prometheus that was down itself is in tests/service/test_rows_exact.py: promtool never misses an
evaluation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from bundle.arrays import Floats
from tests.support.promtool import LATE, absent, check, equals, series, started

LABELS = {"job": "model", "model": "loans", "version": "a", "feature": "ph"}
SCRAPE = 15
# Traffic ends ten minutes before the window is looked at: all of it must be in.
SCRAPES, QUIET, END = 200, 40, 59
# A common bin and two rare ones, rows a scrape.
SHARES = np.array([9.0, 0.4, 0.05])


@dataclass
class Replica:
    """What one target counts (scrapes, bins), which scrapes fail, and when its process restarts."""

    rows: Floats
    instance: str = "0"
    fails: npt.NDArray[np.intp] = field(default_factory=lambda: np.array([], np.intp))
    restarts: tuple[int, ...] = ()
    first_start: float = 0.0
    # The first scrape with the series of this version, which a running process has reloaded.
    reload: int = 0

    def inputs(self, *, with_start: bool = True) -> Iterator[dict[str, str]]:
        """Yield the series as Prometheus sees them."""
        target = {"instance": self.instance, "pod": f"model-{self.instance}"}
        counters, start = self._counters()
        for index, counter in enumerate(counters.T):
            labels = LABELS | target | {"bin": f"{index:02}"}
            seen = self._seen(counter)
            seen[: self.reload] = np.nan
            yield series("model_feature_bin_total", labels, seen)
        if with_start:
            name, labels, _ = started(target, 0)
            yield series(name, labels, self._seen(start))

    def _counters(self) -> tuple[Floats, Floats]:
        counters, start = self.rows.cumsum(axis=0), np.full(len(self.rows), self.first_start)
        for restart in self.restarts:
            # What arrived before scrape number `restart` came to the new process.
            counters[restart:] = self.rows[restart:].cumsum(axis=0)
            start[restart:] = SCRAPE * restart - 10
        return counters, start

    def _seen(self, values: Floats) -> Floats:
        seen = values.astype(float)
        seen[self.fails] = np.nan
        return seen


def arrivals(
    seed: int, *, bursts: bool = False, share: float = 1.0, down: tuple[int, int] = (0, 0)
) -> Floats:
    """Return rows (scrapes, bins): at random, steady or in bursts, and none at the end.

    `down` are the first scrape without a service, and the first with one again.
    """
    rng = np.random.default_rng(seed)
    rate = rng.pareto(1.2, (SCRAPES, 1)) if bursts else np.ones((SCRAPES, 1))
    rows = rng.poisson(np.minimum(rate, 50) * share * SHARES).astype(float)
    rows[slice(*down)] = 0
    return np.vstack([rows, np.zeros((QUIET, len(SHARES)))])


def some(seed: int, share: float) -> npt.NDArray[np.intp]:
    """Return the numbers of scrapes that fail."""
    failed: npt.NDArray[np.intp] = np.flatnonzero(
        np.random.default_rng(seed).random(SCRAPES) < share
    )
    return failed


CASES = {
    "a fifth of the scrapes fails": [Replica(arrivals(1), fails=some(1, 0.21))],
    "seven minutes of scrapes fail": [Replica(arrivals(2), fails=np.arange(80, 108))],
    "forty minutes of scrapes fail": [Replica(arrivals(3), fails=np.arange(20, 180))],
    "the service restarts": [Replica(arrivals(4), restarts=(101,))],
    "the service restarts after three minutes": [
        Replica(arrivals(5, down=(95, 107)), fails=np.arange(95, 107), restarts=(107,))
    ],
    "the service reloads another version": [
        Replica(arrivals(15, down=(0, 100)), reload=100, fails=some(15, 0.1))
    ],
    "the service restarts again and again": [Replica(arrivals(6), restarts=(50, 57, 63, 90))],
    "one of three replicas restarts": [
        Replica(arrivals(7, share=0.5), "0"),
        Replica(arrivals(8, share=2), "1", restarts=(111,)),
        Replica(arrivals(9), "2", fails=some(9, 0.1)),
    ],
    "one scrape in twenty fails, steady traffic": [Replica(arrivals(10), fails=some(10, 0.05))],
    "one scrape in twenty fails, bursts": [
        Replica(arrivals(11, bursts=True), fails=some(11, 0.05))
    ],
}


@pytest.mark.parametrize("replicas", CASES.values(), ids=CASES)
def test_rows_recorded_are_rows_counted(tmp_path: Path, replicas: list[Replica]) -> None:
    """In each bin, to the last row."""
    rows = sum(replica.rows.sum(axis=0) for replica in replicas)
    labels = LABELS | {"counter": "feature_bin", "window": "1h"}

    check(
        tmp_path,
        f"{SCRAPE}s",
        [entry for replica in replicas for entry in replica.inputs()],
        [
            equals("model:increase", labels | {"bin": f"{index:02}"}, count, END)
            for index, count in enumerate(np.asarray(rows))
        ],
    )


def test_a_minute_holds_its_rows(tmp_path: Path) -> None:
    """Those of the four scrapes that ended 15 seconds ago, of all replicas."""
    replicas = [Replica(arrivals(12), "0"), Replica(arrivals(13), "1")]
    rows = sum(replica.rows[4 * 11 : 4 * 12].sum(axis=0) for replica in replicas)
    labels = LABELS | {"counter": "feature_bin", "window": "1m"}

    check(
        tmp_path,
        f"{SCRAPE}s",
        [entry for replica in replicas for entry in replica.inputs()],
        [
            equals("model:increase", labels | {"bin": f"{index:02}"}, count, 12 - LATE)
            for index, count in enumerate(np.asarray(rows))
        ],
    )


def test_replica_that_goes_and_replica_that_comes_are_counted(tmp_path: Path) -> None:
    """Rows of a pod that left stay in the window; those of a new pod count from its start."""
    leaves = Replica(arrivals(14), "old", fails=np.arange(90, SCRAPES + QUIET))
    comes = Replica(arrivals(15), "new", fails=np.arange(100), restarts=(100,))
    rows = leaves.rows[:90].sum() + comes.rows[100:].sum()

    check(
        tmp_path,
        f"{SCRAPE}s",
        [*leaves.inputs(), *comes.inputs()],
        [equals("model_feature:rows", LABELS | {"window": "1h"}, rows, END)],
    )


def test_process_that_is_older_than_the_first_scrape_brings_no_rows_along(tmp_path: Path) -> None:
    """Nobody knows when what it had counted came: it counts from the first evaluation."""
    old = Replica(arrivals(16) + 1000, fails=np.arange(100), first_start=15 * 100 - 601)

    check(
        tmp_path,
        f"{SCRAPE}s",
        list(old.inputs()),
        [
            absent("model_feature:rows", LABELS | {"window": "1h"}, 25),
            # Minute 26 is the first evaluation that finds a scrape, of number 103.
            equals("model_feature:rows", LABELS | {"window": "1h"}, old.rows[104:236].sum(), END),
        ],
    )


def test_without_a_start_time_only_the_minute_of_a_restart_is_lost(tmp_path: Path) -> None:
    """A service that does not export it: the fall of the counters adds and takes nothing."""
    replica = Replica(np.full((SCRAPES + QUIET, 1), 3.0), restarts=(81,))

    check(
        tmp_path,
        f"{SCRAPE}s",
        list(replica.inputs(with_start=False)),
        # The baseline is scrape 3; scrapes 80 to 83 are in the minute that fell.
        [equals("model_feature:rows", LABELS | {"window": "1h"}, 3 * (236 - 4 - 4), END)],
    )


def test_series_that_a_known_process_did_not_have_counts_from_its_first_label(
    tmp_path: Path,
) -> None:
    """The series of a version that runs no more begin with its first label: it is counted."""
    labels = {"job": "model", "model": "loans", "version": "gone", "age": "7d"}
    later = np.full(121, np.nan)
    later[50:] = 1 + np.arange(71)

    check(
        tmp_path,
        f"{SCRAPE}s",
        [
            series("model_feedback_total", labels | {"instance": "0"}, later),
            series(*started({"instance": "0"}, 121)),
        ],
        [
            equals("model_age:feedback_rows", labels | {"window": "1h"}, 2, 13),
            equals("model_age:feedback_rows", labels | {"window": "1h"}, 70, 30),
        ],
    )
