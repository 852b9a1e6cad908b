"""Figures from labels, the promise, and scikit-learn's are the same on the very rows.

What the rules compute of the counters is computed here in Python; that the rules do so, and also
where a class is absent, is tested in tests/rules/test_classification_values.py.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from sklearn.datasets import load_digits, load_iris

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.figures import figures
from bundle.manifest import Feature, Quantity
from tests.support.labels import Worker, create_worker, outputs_of
from tests.support.model import Samples, by_label, total
from tools.rehearsal.data import DATA_SETS as REHEARSED
from tools.rehearsal.data import TARGET, DataSet, classifier

DATA_SETS = {
    **REHEARSED,
    "iris": DataSet(load_iris, classifier),
    "digits": DataSet(load_digits, classifier),
}

# Ten probabilities are in an id as float32.
ROUNDED = {"log_loss": 1e-7, "brier": 1e-7, "calibration_error": 1e-7}
EXACT = 1e-9


def build(name: str, output: Path) -> pd.DataFrame:
    """Write the bundle of a data set, and return its held-out rows."""
    frame: pd.DataFrame = DATA_SETS[name].load(as_frame=True).frame.sample(frac=1, random_state=0)
    frame = frame.loc[:, frame.max() > frame.min()]
    # Some pixels of digits are set in a few rows only.
    columns = [each for each in frame.columns if each != TARGET][:40]
    frame = pd.concat([frame[[*columns, TARGET]]] * (1 if len(frame) > 400 else 3)).head(900)
    train = frame[: int(0.7 * len(frame))]
    features = [
        Feature(name=each, description="", monitored=train[each].max() > train[each].min())
        for each in columns
    ]
    recipe = Recipe(name, Quantity(name=TARGET, description=""), features)
    build_bundle(DATA_SETS[name].estimator(), train, frame[len(train) :], recipe, output)
    held_out: pd.DataFrame = frame[len(train) :]
    return held_out


def of_numbers(samples: Samples) -> dict[str, float]:
    """Return the figures of a regression's labels."""
    rows = total(samples, "model_feedback_total")
    squares = total(samples, "model_feedback_squared_error_sum_total")
    absolute = total(samples, "model_feedback_absolute_error_sum_total")
    return {"mae": absolute / rows, "rmse": float(np.sqrt(squares / rows))}


def of_classes(samples: Samples, classes: Sequence[str]) -> dict[str, float]:
    """Return the figures of a classification's labels."""
    rows = total(samples, "model_feedback_total")
    f1, recall, right = [], [], 0.0
    for name in classes:
        of_class = {"class": name}
        true, false, missed = (
            total(samples, "model_feedback_class_total", outcome=outcome, **of_class)
            for outcome in ("true_positive", "false_positive", "false_negative")
        )
        right += true
        f1 += [2 * true / (2 * true + false + missed)] if true + false + missed else []
        recall += [true / (true + missed)] if true + missed else []
    sums = by_label(samples, "model_feedback_confidence_sum_total", "bin", age="1h")
    of_right = by_label(samples, "model_feedback_confidence_right_total", "bin", age="1h")
    return {
        "accuracy": right / rows,
        "macro_f1": float(np.mean(f1)),
        "balanced_accuracy": float(np.mean(recall)),
        "log_loss": total(samples, "model_feedback_log_loss_sum_total") / rows,
        "brier": total(samples, "model_feedback_brier_sum_total") / rows,
        "calibration_error": sum(abs(sums[each] - of_right[each]) for each in sums) / rows,
    }


def of_scikit_learn(actual: Any, outputs: Any, codes: Any) -> dict[str, float]:  # noqa: ANN401
    """Return scikit-learn's figures of a classification."""
    predicted = outputs.argmax(axis=1)
    with warnings.catch_warnings():
        # It warns of classes that are predicted and not in the truth.
        warnings.simplefilter("ignore", UserWarning)
        balanced = metrics.balanced_accuracy_score(actual, predicted)
    score = outputs[:, 1] if outputs.shape[1] == 2 else outputs
    return {
        "accuracy": metrics.accuracy_score(actual, predicted),
        "macro_f1": metrics.f1_score(actual, predicted, average="macro"),
        "balanced_accuracy": balanced,
        "log_loss": metrics.log_loss(actual, outputs, labels=codes),
        "brier": metrics.brier_score_loss(actual, score, labels=codes),
    }


def live(worker: Worker, frame: pd.DataFrame) -> tuple[dict[str, float], Any]:
    """Predict and label rows; return the figures of all counters, and the outputs."""
    predictions = worker.predict(frame)
    worker.label(predictions, frame[TARGET].tolist())
    classes = [str(each) for each in worker.bundle.manifest.classes]
    samples = worker.samples
    return of_classes(samples, classes) if classes else of_numbers(samples), outputs_of(predictions)


def test_a_regressions_figures_are_one(tmp_path: Path) -> None:
    """Labels, promise and scikit-learn, to 1e-9."""
    held_out = build("diabetes", tmp_path / "b")
    worker = create_worker(tmp_path / "b", tmp_path / "m")
    found, outputs = live(worker, held_out)
    promised = worker.bundle.manifest.validation

    mae = metrics.mean_absolute_error(held_out[TARGET], outputs)
    rmse = metrics.root_mean_squared_error(held_out[TARGET], outputs)
    assert found["mae"] == pytest.approx(mae, rel=EXACT)
    assert found["rmse"] == pytest.approx(rmse, rel=EXACT)
    assert (promised.mae, promised.rmse) == pytest.approx((mae, rmse), rel=EXACT)


@pytest.mark.parametrize("name", ["breast_cancer", "iris", "digits"])
def test_a_classifications_figures_are_one(name: str, tmp_path: Path) -> None:
    """Labels, promise and scikit-learn, to 1e-9; ten probabilities are rounded to float32."""
    held_out = build(name, tmp_path / "b")
    worker = create_worker(tmp_path / "b", tmp_path / "m")
    manifest = worker.bundle.manifest
    found, outputs = live(worker, held_out)
    allowed = dict.fromkeys(found, EXACT) | (ROUNDED if len(manifest.classes) > 5 else {})

    expected = of_scikit_learn(held_out[TARGET], outputs, [*manifest.classes])
    for figure, value in found.items():
        promised = getattr(manifest.validation, figure)
        assert value == pytest.approx(promised, abs=allowed[figure]), figure
        assert promised == pytest.approx(expected.get(figure, promised), abs=EXACT), figure


def test_an_absent_class_counts_as_in_scikit_learn(tmp_path: Path) -> None:
    """One that neither truth nor predictions have, and one that is predicted but never true."""
    held_out = build("digits", tmp_path / "b")
    worker = create_worker(tmp_path / "b", tmp_path / "m")
    classes = [*worker.bundle.manifest.classes]
    predicted = np.array([each.prediction for each in worker.predict(held_out)])
    wrong = held_out[predicted != held_out[TARGET]]
    only_predicted = int(predicted[predicted != held_out[TARGET]][0])
    absent = next(each for each in classes if each not in {*wrong[TARGET], only_predicted})
    rows = held_out[~held_out[TARGET].isin([only_predicted, absent])]
    rows = rows[predicted[~held_out[TARGET].isin([only_predicted, absent])] != absent]

    found, outputs = live(worker, rows)
    expected = of_scikit_learn(rows[TARGET], outputs, classes)
    promise = figures(outputs, rows[TARGET].to_numpy(float), len(classes))
    assert only_predicted in outputs.argmax(axis=1)
    assert absent not in {*rows[TARGET], *outputs.argmax(axis=1)}
    for figure, value in expected.items():
        assert promise[figure] == pytest.approx(value, abs=EXACT), figure
        assert found[figure] == pytest.approx(value, abs=ROUNDED.get(figure, EXACT)), figure
