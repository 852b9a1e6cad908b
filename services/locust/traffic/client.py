"""One simulated client: its requests, their timing, and the use of their answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from traffic.answers import UNEXPECTED_ANSWER, complaint, decoded
from traffic.drift import Drift, mode_of
from traffic.labels import Labels
from traffic.manifest import Manifest, read_manifest
from traffic.rows import Populations, Supply, load_populations, shuffled
from traffic.scenarios import SCENARIOS, Action, Mix, feedback
from traffic.settings import Settings
from traffic.values import shift_class


@dataclass(frozen=True)
class Plan:
    """The state shared by the clients of a process: settings, requests, rows, and the drift."""

    settings: Settings
    manifest: Manifest
    mix: Mix
    populations: Populations
    drift: Drift


def make_plan(settings: Settings, clock: Callable[[], float]) -> Plan:
    """Return the plan for a bundle. Raises TrafficError."""
    manifest = read_manifest(Path(settings.bundle))
    return Plan(
        settings,
        manifest,
        SCENARIOS[settings.scenario](manifest),
        load_populations(settings.rows, manifest),
        Drift(mode_of(settings.rows), settings.gradual_seconds, clock),
    )


class Client:
    """Client `number` of a process; the seed determines all its requests until a switch.

    Times are seconds since the start of the test.
    """

    def __init__(self, plan: Plan, process: int, number: int) -> None:
        settings = plan.settings
        seed = f"{settings.seed}/{process}/{number}"
        self._rng = Random(seed)  # noqa: S311 simulation
        self.phase = self._rng.random()
        deck = [make for make, weight in plan.mix.items() for _ in range(weight)]
        self._makers = shuffled(deck, self._rng)
        self._supply = Supply(plan.populations, plan.drift, self._rng)
        # A separate random source, so that requests do not depend on answers.
        self._labels = Labels(
            share=settings.label_share,
            delay=settings.label_delay_seconds,
            shift=partial(shift_class, plan.manifest, by=settings.label_shift),
            rng=Random(f"{seed}/labels"),  # noqa: S311 simulation
        )

    def next(self, elapsed: float) -> Action:
        """Return the request to send now."""
        if labels := self._labels.due(elapsed):
            return feedback(labels)
        return next(self._makers)(self._supply.next(), self._rng)

    def answered(
        self, action: Action, status: int, body: bytes | None, elapsed: float
    ) -> str | None:
        """Handle an answer; return why it is a failure, or None if it is as expected."""
        wrong = complaint(action, status, body)
        if wrong is None and action.actual is not None and self._labels.share > 0:
            prediction_id = decoded(body).get("prediction_id")
            if not isinstance(prediction_id, str):
                return f"{UNEXPECTED_ANSWER}: no prediction_id"
            self._labels.add(prediction_id, action.actual, elapsed)
        return wrong


class Pace:
    """A steady rate per second (0: no waiting), without a burst after a late request.

    The first request is due `phase` (0..1) of a period after the start, so that users do not send
    at the same moments.
    """

    def __init__(self, rate: float, phase: float, start: float) -> None:
        self._period = 1 / rate if rate else 0.0
        self._due = start + (phase - 1) * self._period

    def wait(self, now: float) -> float:
        """Return the seconds to wait before the next request."""
        self._due = max(self._due + self._period, now)
        return self._due - now
