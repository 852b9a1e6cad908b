"""The figures that a validation promises, from predictions and the truth."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    roc_auc_score,
)

from bundle.arrays import Floats

_CALIBRATION_BINS = 10
# scikit-learn warns of a sum farther from 1, as those of XGBoost's float32 are.
_SUM_TOLERANCE = 1e-9


def predicted(outputs: Floats) -> Floats:
    """Return the predictions (n,): outputs (n,), or the codes of the likeliest of (n, classes)."""
    return outputs if outputs.ndim == 1 else outputs.argmax(axis=1).astype(np.float64)


def confidence(probabilities: Floats) -> Floats:
    """Return the probability (n,) of the predicted class."""
    highest: Floats = probabilities.max(axis=1)
    return highest


def score(probabilities: Floats) -> Floats:
    """Return the monitored probability (n,): of the second of two classes, else the highest."""
    return probabilities[:, 1] if probabilities.shape[1] == 2 else confidence(probabilities)  # noqa: PLR2004


def figures(outputs: Floats, actual: Floats, classes: int) -> dict[str, float]:
    """Return the figures of outputs against the actual values (n,), or codes of `classes` classes.

    A class that no row has counts as scikit-learn counts it, and as the rules count the labels of a
    window: macro-F1 is the mean over the classes that the truth or the predictions have, balanced
    accuracy over those that the truth has. A figure that the rows do not determine is left out: the
    AUC of a single class.
    """
    if not classes:
        errors = outputs - actual
        return {"mae": float(np.abs(errors).mean()), "rmse": float(np.sqrt((errors**2).mean()))}
    codes = predicted(outputs)
    found = {
        "accuracy": accuracy_score(actual, codes),
        "macro_f1": f1_score(actual, codes, average="macro", zero_division=0),
        "balanced_accuracy": _balanced_accuracy(actual, codes),
    }
    if outputs.ndim > 1:
        found |= _of_probabilities(outputs, actual)
    return {name: float(value) for name, value in found.items()}


def _balanced_accuracy(actual: Floats, codes: Floats) -> float:
    """Return the mean recall of the classes that occur; scikit-learn's warns of others."""
    return float(np.mean([(codes[actual == each] == each).mean() for each in np.unique(actual)]))


def _of_probabilities(probabilities: Floats, actual: Floats) -> dict[str, float]:
    codes = range(probabilities.shape[1])
    sums = probabilities.sum(axis=1, keepdims=True)
    if (np.abs(sums - 1) > _SUM_TOLERANCE).any():
        probabilities = probabilities / sums
    found = {
        "log_loss": log_loss(actual, probabilities, labels=codes),
        "brier": brier_score_loss(actual, _outcome(probabilities), labels=codes),
        "calibration_error": calibration_error(
            confidence(probabilities), predicted(probabilities) == actual
        ),
    }
    if len(codes) == 2 and len(np.unique(actual)) == 2:  # noqa: PLR2004
        found["auc"] = roc_auc_score(actual, probabilities[:, 1])
    return found


def _outcome(probabilities: Floats) -> Floats:
    return probabilities[:, 1] if probabilities.shape[1] == 2 else probabilities  # noqa: PLR2004


def calibration_error(confidences: Floats, is_right: NDArray[np.bool_]) -> float:
    """Return the expected calibration error of n answers (Guo et al., ICML 2017, equation 3).

    It is the mean over ten equal bins of [0, 1] of |share right − mean confidence|, by rows.
    """
    bins = np.minimum((confidences * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=is_right - confidences, minlength=_CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(confidences))
