"""Every series that the rules record of a segment equals what NumPy makes of its labels."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn import metrics

from bundle.arrays import Floats
from tests.rules.test_classification_values import wilson
from tests.support.promtool import RULES, absent, check, equals, series, started

LABELS = {"job": "model", "model": "loans", "version": "a"}
MINUTES = 70
# Labels of each bin in the window, rows and error of validation; the last two bins cannot tell.
ROWS = (600, 250, 60, 19)
PROMISED = ((500, 0.2, 0.4), (90, 0.3, 0.45), (400, 0.25, 0.3), (12, 0.1, 0.2))


@dataclass(frozen=True)
class Labelled:
    """The errors of the labels of each bin; `minutes` are when they came."""

    errors: list[Floats]
    minutes: list[Any]
    is_regression: bool

    def inputs(self) -> Iterator[dict[str, str]]:
        """Yield what two workers' pods export."""
        always = np.ones(MINUTES + 1)
        for pod in ("0:8001", "1:8001"):
            target = LABELS | {"instance": pod}
            yield series(*started({"instance": pod}, MINUTES + 1))
            whole = np.concatenate(self.minutes)[int(pod[0]) :: 2]
            counter = np.bincount(whole, minlength=MINUTES + 1).cumsum()
            yield series("model_feedback_total", target | {"age": "1h"}, counter)
            for at, errors in enumerate(self.errors):
                labels = target | {"feature": "area", "bin": f"{at:02}"}
                chosen = slice(int(pod[0]), None, 2)
                for name, amounts in self._sums(errors):
                    counter = np.bincount(
                        self.minutes[at][chosen], amounts[chosen], MINUTES + 1
                    ).cumsum()
                    yield series(f"model_feedback_segment{name}_total", labels, counter)
                rows, error, deviation = PROMISED[at]
                fact = labels | {"value": f"v{at}"}
                yield series("model_segment_validation_rows", fact, rows * always)
                yield series("model_segment_validation_error", fact, error * always)
                yield series("model_segment_validation_deviation", fact, deviation * always)

    def _sums(self, errors: Floats) -> Iterator[tuple[str, Floats]]:
        yield "", np.ones(len(errors))
        if self.is_regression:
            yield "_absolute_error_sum", errors
            yield "_squared_error_sum", errors**2
        else:
            yield "_wrong", errors

    def expected(self, window: str) -> Iterator[dict[str, Any]]:
        """Yield what the rules must record at the end."""
        for at, all_errors in enumerate(self.errors):
            errors = all_errors[self.minutes[at] >= MINUTES - 60] if window == "1h" else all_errors
            fact = LABELS | {"feature": "area", "bin": f"{at:02}"}
            labels = fact | {"window": window}
            yield equals("model_segment:feedback_rows", labels, len(errors), MINUTES)
            yield equals("model_segment:effective_feedback_rows", labels, len(errors), MINUTES)
            yield from self._promised(at, fact)
            if len(errors) < 20:
                for name in ("error", "error_spread", "mae", "accuracy", "error_excess"):
                    yield absent(f"model_segment:{name}", labels, MINUTES)
                continue
            yield from self._judged(at, errors, labels)

    def _promised(self, at: int, fact: dict[str, str]) -> Iterator[dict[str, Any]]:
        rows, error, deviation = PROMISED[at]
        if rows < 20:
            yield absent("model_segment:promised_error", fact, MINUTES)
            yield absent("model_segment:promised_error_spread", fact, MINUTES)
            return
        yield equals("model_segment:promised_error", fact, error, MINUTES)
        spread = deviation / np.sqrt(rows)
        yield equals("model_segment:promised_error_spread", fact, spread, MINUTES)

    def _judged(self, at: int, errors: Floats, labels: dict[str, str]) -> Iterator[dict[str, Any]]:
        rows, mean = len(errors), errors.mean()
        yield equals("model_segment:error", labels, mean, MINUTES)
        if self.is_regression:
            spread = errors.std() / np.sqrt(rows - 1)
            quantile = 1.9599639845 + 2.3722712303 / (rows - 1)
            ends = max(mean - quantile * spread, 0), mean * np.exp(quantile * spread / mean)
            name = "mae"
            exact = metrics.mean_absolute_error(np.zeros(rows), errors)
        else:
            spread = errors.std() / np.sqrt(rows)
            ends = wilson(1 - mean, rows)
            name = "accuracy"
            exact = metrics.accuracy_score(np.zeros(rows), errors)
        yield equals(f"model_segment:{name}", labels, exact, MINUTES)
        yield equals("model_segment:error_spread", labels, spread, MINUTES)
        for bound, value in zip(("lower", "upper"), ends, strict=True):
            yield equals(f"model_segment:{name}_ci", labels | {"bound": bound}, value, MINUTES)
        validated, promised, deviation = PROMISED[at]
        if rows >= 200 and validated >= 20:
            least = mean - 4 * np.sqrt(spread**2 + deviation**2 / validated)
            yield equals("model_segment:error_excess", labels, least / promised - 1, MINUTES)
        else:
            yield absent("model_segment:error_excess", labels, MINUTES)


def labelled(*, is_regression: bool) -> Labelled:
    """Return labels that came within the last hour, and a few before."""
    rng = np.random.default_rng(3)
    errors = [
        rng.gamma(2, 0.2, rows) if is_regression else (rng.random(rows) < 0.3).astype(float)
        for rows in ROWS
    ]
    minutes = [rng.integers(MINUTES - 59, MINUTES, rows) for rows in ROWS]
    for each in minutes[:2]:
        each[:10] = 3
    return Labelled(errors, minutes, is_regression)


@pytest.mark.parametrize("is_regression", [True, False])
@pytest.mark.parametrize("window", ["1h", "1d"])
def test_recorded_series_are_numpys(
    tmp_path: Path,
    is_regression: bool,  # noqa: FBT001
    window: str,
) -> None:
    """With fewer than 20 labels or rows of validation nothing is said, below 200 no judgement."""
    stream = labelled(is_regression=is_regression)

    check(tmp_path, "1m", [*stream.inputs()], [*stream.expected(window)])


def test_labels_that_depend_on_each_other_weigh_less(tmp_path: Path) -> None:
    """Each value of a segment has the design effect of all labels."""
    stream = labelled(is_regression=False)
    labels = LABELS | {"instance": "0:8001", "feature": "prediction", "bin": "00"}
    # Fewer rows than labels: every one has a label.
    growing = np.arange(MINUTES + 1.0)
    facts = [
        series("model_feature_bin_total", labels, growing),
        series("model_feature_reference_ratio", labels | {"range": "x"}, np.ones(MINUTES + 1)),
        series("model_info", LABELS | {"instance": "0:8001"}, np.ones(MINUTES + 1)),
        series(
            "model_feature_repeats_total",
            LABELS | {"instance": "0:8001", "span": "1h"},
            1.5 * growing,
        ),
    ]
    segment = LABELS | {"window": "1h", "feature": "area", "bin": "01"}

    check(
        tmp_path,
        "1m",
        [*stream.inputs(), *facts],
        [
            equals("model_segment:effective_feedback_rows", segment, 240 / 4, MINUTES),
            absent("model_segment:error_excess", segment, MINUTES),
        ],
    )


def recorded() -> set[str]:
    """Return the names of the series that the rules of segments record."""
    groups = yaml.safe_load((RULES / "segments.yml").read_text())["groups"]
    return {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}


def test_every_series_that_is_recorded_is_compared() -> None:
    """No more and no less than the rules record."""
    compared = {
        re.sub(r"^abs\(([\w:]+).*", r"\1", case["expr"])
        for is_regression in (True, False)
        for case in labelled(is_regression=is_regression).expected("1h")
        if case["exp_samples"]
    }

    assert compared == recorded()
