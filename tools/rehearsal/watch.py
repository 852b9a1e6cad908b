"""Send held-out rows and their labels to the running model, and compare what is recorded."""

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, NamedTuple

import httpx
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics

from tools.rehearsal.data import TARGET
from tools.stack import probe
from tools.stack.settings import Settings, StackError

# Recorded figures are compared within this share of scikit-learn's.
TOLERANCE = 1e-9
# After the last label: a minute and 15 s until it is counted, and 3 minutes each until the group
# with the statistics and the one of the task are evaluated.
_RECORDED_SECONDS = 480.0


class Labelled(NamedTuple):
    """The answers (n,) to rows, each with its actual value (n,)."""

    answers: Sequence[Mapping[str, Any]]
    actual: NDArray[Any]


class Figure(NamedTuple):
    """A figure that Prometheus recorded, scikit-learn's, and by how much they may differ."""

    name: str
    recorded: float
    expected: float
    allowed: float

    @property
    def is_equal(self) -> bool:
        """Return whether they are equal within what is allowed."""
        return abs(self.recorded - self.expected) <= self.allowed


def send(settings: Settings, held_out: pd.DataFrame, seconds: float, rate: float) -> Labelled:
    """Send the rows in turn, each with its label at once, `rate` a second. Raises StackError."""
    rows = held_out.drop(columns=TARGET).to_dict("records")
    actual = held_out[TARGET].tolist()
    number = max(len(rows), round(seconds * rate))
    answers = []
    start = time.monotonic()
    try:
        with httpx.Client(base_url=settings.url("MODEL_PORT"), trust_env=False) as client:
            for at, (row, truth) in enumerate(
                islice(cycle(zip(rows, actual, strict=True)), number)
            ):
                time.sleep(max(0.0, start + at / rate - time.monotonic()))
                answers.append(_send_one(client, row, truth))
    except httpx.HTTPError as error:
        raise StackError(f"the model at {settings.url('MODEL_PORT')}: {error}") from error
    return Labelled(answers, np.array([*islice(cycle(actual), number)]))


def _send_one(client: httpx.Client, row: Mapping[Any, Any], actual: Any) -> Mapping[str, Any]:  # noqa: ANN401
    answer: dict[str, Any] = client.post("/predict", json=row).raise_for_status().json()
    label = {"prediction_id": answer["prediction_id"], "actual": actual}
    client.post("/feedback", json=label).raise_for_status()
    return answer


def compare(settings: Settings, labelled: Labelled) -> list[Figure]:
    """Return the figures, once every label is recorded. Raises StackError."""
    number = len(labelled.actual)
    deadline = time.monotonic() + _RECORDED_SECONDS
    while True:
        found = [*_figures(settings, labelled)]
        recorded = _recorded(settings, "feedback_rows")
        is_late = time.monotonic() > deadline
        if recorded != number and is_late:
            raise StackError(f"{recorded} of {number} labels are recorded: does other traffic run?")
        # A group of rules is evaluated after the one that counts the labels.
        if recorded == number and (is_late or all(each.is_equal for each in found)):
            return found
        time.sleep(1)


def _figures(settings: Settings, labelled: Labelled) -> Iterator[Figure]:
    for name, value in expected(labelled).items():
        recorded = _recorded(settings, name)
        allowed = TOLERANCE * max(1.0, abs(value))
        if name == "auc":
            allowed += _recorded(settings, "auc_binning_error") or 0.0
        yield Figure(name, float("nan") if recorded is None else recorded, value, allowed)


def expected(labelled: Labelled) -> dict[str, float]:
    """Return scikit-learn's figures, named like the recorded series."""
    actual = labelled.actual
    predicted = np.array([next(iter(each.values())) for each in labelled.answers])
    if "probabilities" not in labelled.answers[0]:
        return {
            "mae": float(metrics.mean_absolute_error(actual, predicted)),
            "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
            "bias": float((predicted - actual).mean()),
        }
    outputs = np.array([[*each["probabilities"].values()] for each in labelled.answers])
    found = {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "macro_f1": metrics.f1_score(actual, predicted, average="macro"),
        "balanced_accuracy": metrics.balanced_accuracy_score(actual, predicted),
        "log_loss": metrics.log_loss(actual, outputs),
    }
    if outputs.shape[1] == 2:  # noqa: PLR2004
        # Classes may be text.
        is_second = actual == np.unique(actual)[-1]
        found["brier"] = metrics.brier_score_loss(is_second, outputs[:, 1])
        found["auc"] = metrics.roc_auc_score(is_second, outputs[:, 1])
    else:
        found["brier"] = metrics.brier_score_loss(actual, outputs)
    return {name: float(value) for name, value in found.items()}


def alerts(settings: Settings, seconds: float) -> list[str]:
    """Return each alert but the watchdog that fired in the last seconds, with its labels."""
    wanted = f'last_over_time(ALERTS{{alertstate="firing",alertname!="Watchdog"}}[{seconds:.0f}s])'
    ignored = {"__name__", "alertstate", "job", "model", "version"}
    return sorted(
        " ".join(
            [each["metric"]["alertname"]]
            + [
                f"{name}={value}"
                for name, value in sorted(each["metric"].items())
                if name not in ignored and name != "alertname"
            ]
        )
        for each in probe.query(settings, wanted)
    )


def _recorded(settings: Settings, name: str) -> float | None:
    found = probe.query(settings, f'model:{name}{{window="1h"}}')
    return float(found[0]["value"][1]) if found else None
