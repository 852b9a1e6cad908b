"""Data sets of scikit-learn as a user has them: CSV files, and a fitted estimator in a file."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import joblib
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

ESTIMATOR_FILE = "model.joblib"
TRAIN_FILE = "train.csv"
HELD_OUT_FILE = "held_out.csv"
TARGET = "target"


class DataSet(NamedTuple):
    """Where a data set comes from, and the estimator that is fitted to it."""

    load: Callable[..., Any]
    estimator: Callable[[], Any]


def classifier() -> Pipeline:
    """Return an unfitted classifier."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1_000))


def _regressor() -> Pipeline:
    return make_pipeline(StandardScaler(), Ridge())


DATA_SETS: Mapping[str, DataSet] = {
    "diabetes": DataSet(load_diabetes, _regressor),
    "breast_cancer": DataSet(load_breast_cancer, classifier),
}


def write(name: str, directory: Path) -> None:
    """Write a data set's training rows, its held-out rows, and an estimator fitted to the former.

    Raises OSError.
    """
    chosen = DATA_SETS[name]
    frame = chosen.load(as_frame=True).frame
    is_classification = name != "diabetes"
    train, held_out = train_test_split(
        frame, test_size=0.4, random_state=0, stratify=frame[TARGET] if is_classification else None
    )
    fitted = chosen.estimator().fit(train.drop(columns=TARGET), train[TARGET])
    directory.mkdir(parents=True, exist_ok=True)
    train.to_csv(directory / TRAIN_FILE, index=False)
    held_out.to_csv(directory / HELD_OUT_FILE, index=False)
    joblib.dump(fitted, directory / ESTIMATOR_FILE)
