"""Rows that arrive together go in one call, and no row harms its neighbours."""

import asyncio
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bundle.arrays import Floats
from serving.events import Prediction
from serving.inputs import Row
from serving.metrics.predictions import ModelMetrics
from serving.prediction_id import Signer
from serving.predictor import Predictor
from tests.support.bundles import FEATURES, make_manifest, read_metrics
from tests.support.model import total

SIGNER = Signer([b"k" * 32], "made-up", "0123456789ab")


class Estimator:
    """Predicts the first feature; remembers its calls, and fails where `judge` says so."""

    def __init__(self, judge: Callable[[Floats], Floats] = lambda rows: rows[:, 0]) -> None:
        self.calls: list[int] = []
        self._judge = judge

    def predict(self, X: Floats) -> Floats:  # noqa: N803 scikit-learn's name
        """Return a prediction for each row."""
        self.calls.append(len(X))
        return self._judge(X)


def row(value: float) -> Row:
    """Return a row whose first feature has this value."""
    return (value, *[5.0] * (len(FEATURES) - 1))


def make(directory: Path, estimator: Estimator) -> Predictor:
    """Return a predictor that counts in a directory."""
    return Predictor(estimator, SIGNER, ModelMetrics(make_manifest(), directory))


def ask(predictor: Predictor, *values: float) -> list[Prediction | BaseException | None]:
    """Predict rows in one turn of the loop, as that many requests."""

    async def all_at_once() -> list[Prediction | BaseException | None]:
        waiting = (predictor.predict(row(value)) for value in values)
        return await asyncio.gather(*waiting, return_exceptions=True)

    return asyncio.run(all_at_once())


def values_of(answers: list[Prediction | BaseException | None]) -> list[float | None]:
    """Return the predicted values, None where there is no prediction."""
    return [answer.prediction if isinstance(answer, Prediction) else None for answer in answers]


def refuse_negative(rows: Floats) -> Floats:
    """Refuse a whole call for one negative row, as scikit-learn refuses for one infinity."""
    if (rows[:, 0] < 0).any():
        raise ValueError("negative")
    return rows[:, 0]


def test_rows_of_one_turn_are_one_call(tmp_path: Path) -> None:
    """Each gets its own prediction; the estimator is asked once."""
    estimator = Estimator()
    answers = ask(make(tmp_path, estimator), *range(50))

    assert values_of(answers) == list(range(50))
    assert estimator.calls == [50]


def test_rows_of_the_next_turns_join_those_that_wait(tmp_path: Path) -> None:
    """As long as every turn of the loop brings another one."""
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


def test_a_stream_of_rows_keeps_nobody_waiting(tmp_path: Path) -> None:
    """However many come, there is a call once there are enough."""
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


def test_a_lone_row_is_predicted_at_the_next_turn(tmp_path: Path) -> None:
    """It does not wait to see whether others come."""
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


def test_a_lone_row_waits_for_nobody(tmp_path: Path) -> None:
    """Rows of later turns are later calls."""
    estimator = Estimator()
    predictor = make(tmp_path, estimator)

    async def one_after_the_other() -> list[Prediction | None]:
        return [await predictor.predict(row(value)) for value in (1, 2, 3)]

    answers = asyncio.run(one_after_the_other())
    assert [answer and answer.prediction for answer in answers] == [1, 2, 3]
    assert estimator.calls == [1, 1, 1]


def test_a_prediction_has_an_id_of_its_own(tmp_path: Path) -> None:
    """It carries the value, and the version of the model."""
    answers = [each for each in ask(make(tmp_path, Estimator()), 1.5, 1.5) if each is not None]

    ids = {each.prediction_id for each in answers if isinstance(each, Prediction)}
    assert len(ids) == 2
    assert {SIGNER.read(each).prediction for each in ids} == {1.5}


def test_a_refused_row_does_not_fail_its_neighbours(tmp_path: Path) -> None:
    """It alone has no prediction, and it alone is not counted."""
    predictor = make(tmp_path, Estimator(refuse_negative))
    answers = ask(predictor, 1, -1, 3)

    assert values_of(answers) == [1, None, 3]
    assert answers[1] is None
    assert total(read_metrics(tmp_path), "model_predictions_total") == 2


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_prediction_that_is_no_number_is_none(tmp_path: Path, value: float) -> None:
    """JSON has no word for it, and no bin."""
    estimator = Estimator(lambda rows: np.where(rows[:, 0] == 2, value, rows[:, 0]))
    answers = ask(make(tmp_path, estimator), 1, 2, 3)

    assert values_of(answers) == [1, None, 3]
    assert total(read_metrics(tmp_path), "model_predictions_total") == 2
    assert total(read_metrics(tmp_path), "model_monitoring_failures_total") == 0


def test_no_prediction_at_all_is_none_for_each(tmp_path: Path) -> None:
    """Nothing is counted but the call."""
    answers = ask(make(tmp_path, Estimator(refuse_negative)), -1, -2)

    samples = read_metrics(tmp_path)
    assert answers == [None, None]
    assert total(samples, "model_predictions_total") == 0
    assert total(samples, "model_inference_seconds_count") == 1


def test_an_estimator_that_breaks_tells_all_who_wait(tmp_path: Path) -> None:
    """Nobody waits for ever, and the next turn is served."""

    def break_at_nine(rows: Floats) -> Floats:
        if (rows[:, 0] == 9).any():
            raise RuntimeError("broken")
        return rows[:, 0]

    predictor = make(tmp_path, Estimator(break_at_nine))
    failed = ask(predictor, 1, 9)

    assert [type(each) for each in failed] == [RuntimeError, RuntimeError]
    assert values_of(ask(predictor, 1, 2)) == [1, 2]


def test_a_client_that_goes_away_harms_nobody(tmp_path: Path) -> None:
    """A cancelled request leaves its neighbours their answers, whether the call succeeds or not."""
    for judge in (lambda rows: rows[:, 0], refuse_negative):
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


def test_cancelled_rows_are_no_obstacle_to_a_failure(tmp_path: Path) -> None:
    """The estimator breaks, one waiter is gone already: the other is told."""

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
    """In its order, with None where the estimator has no prediction."""
    estimator = Estimator(refuse_negative)
    predictor = make(tmp_path, estimator)

    assert values_of([*predictor.predict_batch([row(n) for n in range(5)])]) == list(range(5))
    assert estimator.calls == [5]
    assert values_of([*predictor.predict_batch([row(1), row(-1)])]) == [1, None]
