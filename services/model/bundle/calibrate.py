"""How often a classifier is right at a confidence, from rows that it was not fitted to.

The mean of the calibrated confidence over live rows estimates their accuracy without labels, as
long as only the inputs drift: confidence-based performance estimation (CBPE, NannyML). Guo et al.
("On Calibration of Modern Neural Networks", ICML 2017) compare the two methods used here.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from bundle.arrays import Floats
from bundle.manifest import Calibration

# Isotonic regression follows the noise of fewer rows (Niculescu-Mizil and Caruana, ICML 2005).
_ENOUGH_FOR_ISOTONIC = 1_000
_SIGMOID_POINTS = 33
_MAX_POINTS = 100
_LEAST = 1e-6


def calibrate(confidences: Floats, is_right: NDArray[np.bool_]) -> Calibration:
    """Return the probability of being right by confidence, fitted to n answers."""
    rows = len(confidences)
    if is_right.all() or not is_right.any() or confidences.min() == confidences.max():
        # Laplace's estimate: there is nothing that a curve could be fitted to.
        probability = (int(is_right.sum()) + 1) / (rows + 2)
        points = [(float(confidences.max()), probability)]
        return Calibration(method="sigmoid", points=tuple(points), rows=rows)
    if rows >= _ENOUGH_FOR_ISOTONIC:
        return Calibration(method="isotonic", points=_isotonic(confidences, is_right), rows=rows)
    return Calibration(method="sigmoid", points=_sigmoid(confidences, is_right), rows=rows)


def _isotonic(confidences: Floats, is_right: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    fitted = IsotonicRegression(y_min=0, y_max=1).fit(confidences, is_right)
    x, y = fitted.X_thresholds_, fitted.y_thresholds_
    if len(x) > _MAX_POINTS:
        kept = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).round().astype(int))
        x, y = x[kept], y[kept]
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _sigmoid(confidences: Floats, is_right: NDArray[np.bool_]) -> tuple[tuple[float, float], ...]:
    """Return points of Platt's sigmoid, fitted to the log-odds of the confidences."""
    fitted = LogisticRegression().fit(_log_odds(confidences), is_right)
    x = np.linspace(confidences.min(), confidences.max(), _SIGMOID_POINTS)
    y = fitted.predict_proba(_log_odds(x))[:, 1]
    return tuple(zip(x.tolist(), y.tolist(), strict=True))


def _log_odds(confidences: Floats) -> Floats:
    p = confidences.clip(_LEAST, 1 - _LEAST)
    column: Floats = np.log(p / (1 - p))[:, None]
    return column
