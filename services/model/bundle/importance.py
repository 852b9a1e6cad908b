"""How much each feature matters: the rise of the error when its values are permuted."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.figures import figures

# An estimator that is not compiled takes milliseconds for each prediction and many for many rows.
_ROWS = 1_000
_CELLS = 100_000


def importances(
    predict: Callable[[Any], Floats],
    given: Any,  # noqa: ANN401
    actual: Floats,
    classes: int,
    seed: int,
) -> list[float]:
    """Return each feature's importance: the rise of the error of n rows, at least 0.

    `given` (n, features) is what `predict` takes (Breiman, "Random Forests", 2001, section 10).

    The error is the mean absolute error, or the log-loss, or else 1 − accuracy.
    """
    base = _error(predict(given), actual, classes)
    order = np.random.default_rng(seed + 1).permutation(len(actual))
    return [
        max(0.0, _error(predict(_permuted(given, place, order)), actual, classes) - base)
        for place in range(given.shape[1])
    ]


def sample(rows: int, features: int, seed: int) -> NDArray[np.intp]:
    """Return the places of the rows that importance is measured on: up to 1,000, fewer if wide."""
    at_most = min(_ROWS, max(200, _CELLS // features))
    return np.random.default_rng(seed).permutation(rows)[:at_most]


def _error(outputs: Floats, actual: Floats, classes: int) -> float:
    found = figures(outputs, actual, classes)
    if not classes:
        return found["mae"]
    return found.get("log_loss", 1 - found["accuracy"])


def _permuted(given: Any, place: int, order: Any) -> Any:  # noqa: ANN401
    if isinstance(given, pd.DataFrame):
        name = given.columns[place]
        return given.assign(**{name: given[name].array[order]})
    changed = given.copy()
    changed[:, place] = given[order, place]
    return changed
