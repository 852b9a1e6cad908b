"""What Prometheus recorded of signals in the last hour, read at one evaluation of its rules."""

from dataclasses import dataclass

import pytest

from tests.support.prometheus import Prometheus

# In the group's order, the last of the series that are read here.
_LAST = "mean_shift_sigma"


@dataclass(frozen=True)
class Recorded:
    """The statistics of one evaluation that has ended."""

    prometheus: Prometheus
    time: float

    def __call__(self, statistic: str) -> dict[str, float]:
        """Return a statistic of the last hour, against training, by signal."""
        return self.prometheus.by_label(_series(statistic), "feature", at=self.time)


def wait_for_rows(prometheus: Prometheus, count: int) -> Recorded:
    """Wait for an evaluation with `count` rows of each of the 12 signals, and return it.

    Rules of a group are evaluated one after the other: between two of them, what the first has
    recorded is newer than what the second has.
    """
    found: list[Recorded] = []

    def are_recorded() -> bool:
        times = [time for _, time in prometheus.query(f"timestamp({_series(_LAST)})")]
        if not times:
            return False
        found[:] = [Recorded(prometheus, max(times))]
        return [*found[0]("rows").values()] == pytest.approx([count] * 12, rel=1e-9)

    prometheus.program.until(are_recorded, f"{count} rows of each signal are recorded")
    return found[0]


def _series(statistic: str) -> str:
    return f'model_feature:{statistic}{{window="1h",reference=~"|training"}}'
