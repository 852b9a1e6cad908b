"""Cross-validation: each training row is predicted by a model that was not fitted to it."""

from typing import Any

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, cross_val_predict

from bundle.arrays import Floats
from bundle.errors import UnmonitorableError
from bundle.target import Target

FOLDS = 5


def cross_validate(estimator: Any, given: Any, codes: Floats, target: Target, seed: int) -> Floats:  # noqa: ANN401
    """Return the outputs of each training row (see bundle.estimator).

    Equal rows are in the same fold, so that a row's duplicates are not in its training set either.
    Raises UnmonitorableError.
    """
    groups = np.unique(codes, axis=0, return_inverse=True)[1].ravel()
    if target.task == "regression":
        folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
        outputs = cross_val_predict(estimator, given, target.values, groups=groups, cv=folds)
        return np.asarray(outputs, dtype=np.float64)
    _check_classes(target)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
    outputs = cross_val_predict(
        estimator,
        given,
        target.values,
        groups=groups,
        cv=folds,
        method="predict_proba" if target.probabilities else "predict",
    )
    if target.probabilities:
        return np.asarray(outputs, dtype=np.float64)
    order = {value: float(code) for code, value in enumerate(target.classes)}
    return np.array([order[value] for value in np.asarray(outputs).tolist()])


def _check_classes(target: Target) -> None:
    for code, value in enumerate(target.classes):
        rows = int((target.codes == code).sum())
        if rows < FOLDS:
            raise UnmonitorableError(
                f"class {value!r} has {rows} training rows: cross-validation needs at least {FOLDS}"
            )
