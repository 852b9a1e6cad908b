"""Rows that arrive together are predicted in one call without affecting each other."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from bundle.encode import Encoder
from bundle.estimator import Rows
from bundle.manifest import Value
from serving.events import Prediction
from serving.metrics.predictions import ModelMetrics
from serving.outcomes import Regression
from serving.prediction_id import Signer
from serving.predictor import Predictor
from serving.values import Row
from tests.support.bundles import FEATURES, make_manifest, read_metrics
from tests.support.model import total

SIGNER = Signer([b"k" * 32], "made-up", "0123456789ab")


class Estimator:
    """Predicts the first feature by default, and records its calls."""

    def __init__(self, judge: Callable[[Floats], Floats] = lambda rows: rows[:, 0]) -> None:
        self.calls: list[int] = []
        self._judge = judge

    def predict(self, rows: Rows, codes: Floats) -> Floats:
        """Return a prediction for each row."""
        assert len(rows) == len(codes)
        self.calls.append(len(codes))
        return self._judge(codes)


def row(value: float) -> Row:
    """Return a row whose first feature has this value."""
    return (value, *[5.0] * (len(FEATURES) - 1))


def make(directory: Path, estimator: Estimator) -> Predictor:
    """Return a predictor that writes its metrics to a directory."""
    manifest = make_manifest()
    metrics = ModelMetrics(manifest, directory)
    return Predictor(estimator, Encoder(FEATURES), Regression(manifest, SIGNER), metrics)


def ask(predictor: Predictor, *values: float) -> list[Prediction | BaseException | None]:
    """Predict rows in one iteration of the event loop, as one request each."""

    async def all_at_once() -> list[Prediction | BaseException | None]:
        waiting = (predictor.predict(row(value)) for value in values)
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(all_at_once())


def values_of(answers: list[Prediction | BaseException | None]) -> list[Value | None]:
    """Return the predicted values, None where there is no prediction."""
    return [answer.prediction if isinstance(answer, Prediction) else None for answer in answers]


def reject_negative(rows: Floats) -> Floats:
    """Reject a whole call for one negative row, as scikit-learn does for one infinity."""
    if (rows[:, 0] < 0).any():
        raise ValueError("negative")
    return rows[:, 0]


def test_rows_of_one_iteration_are_predicted_in_one_call(tmp_path: Path) -> None:
    """Each row gets its own prediction."""
    estimator = Estimator()
    answers = ask(make(tmp_path, estimator), *range(50))

    assert values_of(answers) == list(range(50))
    assert estimator.calls == [50]


def test_rows_of_later_iterations_join_the_waiting_rows(tmp_path: Path) -> None:
    """Rows are collected while every iteration of the event loop adds another one."""
    estimator = Estimator()
    predictor = make(tmp_path, estimator)

    async def later(turns: int) -> Prediction | None:
        for _ in range(turns):
            await asyncio.sleep(0)
        return await predictor.predict(row(turns))

    async def one_a_turn() -> list[Prediction | BaseException | None]:
        waiting = (later(turns) for turns in (0, 0, 1, 2, 3))
        return await asyncio.gather(*waiting, return_exceptions=True)

    assert values_of(asyncio.run(one_a_turn())) == [0, 0, 1, 2, 3]
    assert estimator.calls == [5]


def test_a_continuous_stream_of_rows_is_predicted(tmp_path: Path) -> None:
    """Once enough rows wait they are predicted, even if more arrive."""
    estimator = Estimator()
    predictor = make(tmp_path, estimator)

    async def stream() -> None:
        waiting = []
        for _ in range(200):
            waiting.append(asyncio.ensure_future(predictor.predict(row(1))))
            await asyncio.sleep(0)
        await asyncio.gather(*waiting)

    asyncio.run(stream())

    assert sum(estimator.calls) == 200
    assert max(estimator.calls) <= 65


def test_a_single_row_is_predicted_in_the_next_iteration(tmp_path: Path) -> None:
    """It does not wait for other rows."""
    estimator = Estimator()
    predictor = make(tmp_path, estimator)

    async def calls_after_one_turn() -> list[int]:
        answer = asyncio.ensure_future(predictor.predict(row(1)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        calls = estimator.calls[:]
        await answer
        return calls

    assert asyncio.run(calls_after_one_turn()) == [1]


def test_rows_one_after_another_are_separate_calls(tmp_path: Path) -> None:
    """A row that arrives after the previous answer is another call."""
    estimator = Estimator()
    predictor = make(tmp_path, estimator)

    async def one_after_the_other() -> list[Prediction | None]:
        return [await predictor.predict(row(value)) for value in (1, 2, 3)]

    answers = asyncio.run(one_after_the_other())
    assert [answer and answer.prediction for answer in answers] == [1, 2, 3]
    assert estimator.calls == [1, 1, 1]


def test_each_prediction_has_its_own_id(tmp_path: Path) -> None:
    """Ids of equal predictions differ, and contain the predicted value."""
    answers = [each for each in ask(make(tmp_path, Estimator()), 1.5, 1.5) if each is not None]

    ids = {each.prediction_id for each in answers if isinstance(each, Prediction)}
    assert len(ids) == 2
    assert {SIGNER.read(each).prediction for each in ids} == {1.5}


def test_a_rejected_row_does_not_affect_other_rows(tmp_path: Path) -> None:
    """Only the rejected row has no prediction and is not counted."""
    predictor = make(tmp_path, Estimator(reject_negative))
    answers = ask(predictor, 1, -1, 3)

    assert values_of(answers) == [1, None, 3]
    assert answers[1] is None
    assert total(read_metrics(tmp_path), "model_predictions_total") == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_not_finite_is_none(tmp_path: Path, value: float) -> None:
    """It has neither a representation in JSON nor a bin."""
    estimator = Estimator(lambda rows: np.where(rows[:, 0] == 2, value, rows[:, 0]))
    answers = ask(make(tmp_path, estimator), 1, 2, 3)

    assert values_of(answers) == [1, None, 3]
    assert total(read_metrics(tmp_path), "model_predictions_total") == 2
    assert total(read_metrics(tmp_path), "model_monitoring_failures_total") == 0


def test_a_call_in_which_every_row_is_rejected_counts_no_prediction(tmp_path: Path) -> None:
    """Only the call itself is counted."""
    answers = ask(make(tmp_path, Estimator(reject_negative)), -1, -2)

    samples = read_metrics(tmp_path)
    assert answers == [None, None]
    assert total(samples, "model_predictions_total") == 0
    assert total(samples, "model_inference_seconds_count") == 1


def test_an_exception_of_the_estimator_reaches_every_waiter(tmp_path: Path) -> None:
    """Later rows are predicted."""

    def break_at_nine(rows: Floats) -> Floats:
        if (rows[:, 0] == 9).any():
            raise RuntimeError("broken")
        return rows[:, 0]

    predictor = make(tmp_path, Estimator(break_at_nine))
    failed = ask(predictor, 1, 9)

    assert [type(each) for each in failed] == [RuntimeError, RuntimeError]
    assert values_of(ask(predictor, 1, 2)) == [1, 2]


def test_a_cancelled_request_does_not_affect_others(tmp_path: Path) -> None:
    """The others are answered, whether the estimator accepts the call or not."""
    for judge in (lambda rows: rows[:, 0], reject_negative):
        predictor = make(tmp_path, Estimator(judge))

        async def cancel_the_first(predictor: Predictor = predictor) -> Prediction | None:
            first = asyncio.ensure_future(predictor.predict(row(1)))
            second = asyncio.ensure_future(predictor.predict(row(2)))
            third = asyncio.ensure_future(predictor.predict(row(-1)))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, third, return_exceptions=True)
            return await second

        answer = asyncio.run(cancel_the_first())
        assert answer is not None
        assert answer.prediction == 2


def test_an_exception_skips_cancelled_rows(tmp_path: Path) -> None:
    """If one waiter is cancelled, the others still get the exception."""

    def break_always(_: Floats) -> Floats:
        raise RuntimeError("broken")

    predictor = make(tmp_path, Estimator(break_always))

    async def cancel_the_first() -> Prediction | None:
        first = asyncio.ensure_future(predictor.predict(row(1)))
        second = asyncio.ensure_future(predictor.predict(row(2)))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    with pytest.raises(RuntimeError, match="broken"):
        asyncio.run(cancel_the_first())


def test_a_batch_is_one_call(tmp_path: Path) -> None:
    """Predictions are in the order of the rows, with None for a row without one."""
    estimator = Estimator(reject_negative)
    predictor = make(tmp_path, estimator)

    assert values_of([*predictor.predict_batch([row(n) for n in range(5)])]) == list(range(5))
    assert estimator.calls == [5]
    assert values_of([*predictor.predict_batch([row(1), row(-1)])]) == [1, None]
