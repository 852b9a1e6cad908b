"""Find out what an estimator eats: a matrix, or a DataFrame and with which column types."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from threadpoolctl import threadpool_limits

from bundle.errors import UnmonitorableError
from bundle.frames import eaten
from bundle.manifest import Feature, Input

_PREDICTED_ROWS = 20
_FITTED_ROWS = 300


def choose_input(
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    features: Sequence[Feature],
    target: Any,  # noqa: ANN401
    *,
    is_fitted: bool,
) -> Input:
    """Return the first kind of input that the estimator accepts. Raises UnmonitorableError.

    A fitted estimator is asked for the first rows; another is fitted to a sample of them, unless
    all features are numbers and nothing in it selects columns by name.
    """
    is_numeric = not any(each.type == "category" for each in features)
    by_name = _knows_names(estimator) if is_fitted else _selects_columns(estimator)
    if not is_fitted and is_numeric and not by_name:
        return Input()
    reasons = []
    matrix_first = not by_name and (is_fitted or is_numeric)
    for candidate in _candidates(features, matrix_first=matrix_first):
        try:
            with warnings.catch_warnings(), threadpool_limits(1):
                # The reason why it is rejected says more than a warning before.
                warnings.simplefilter("ignore")
                if is_fitted:
                    estimator.predict(eaten(train.head(_PREDICTED_ROWS), features, candidate))
                else:
                    _fit_sample(estimator, train, features, target, candidate)
        except Exception as error:  # noqa: BLE001 anything that an estimator raises
            reasons.append(_line(error))
        else:
            return candidate
    raise UnmonitorableError(f"the estimator does not accept the data: {reasons[0]}")


def _candidates(features: Sequence[Feature], *, matrix_first: bool) -> Iterator[Input]:
    categories = {each.source: "category" for each in features if each.type == "category"}
    if matrix_first:
        yield Input()
    yield Input(kind="frame")
    if categories:
        yield Input(kind="frame", dtypes=categories)
    if not matrix_first:
        yield Input()


def _fit_sample(
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    features: Sequence[Feature],
    target: Any,  # noqa: ANN401
    candidate: Input,
) -> None:
    rows = np.random.default_rng(0).permutation(len(train))[:_FITTED_ROWS]
    sample = train.iloc[rows]
    clone(estimator).fit(eaten(sample, features, candidate), target[rows])


def _knows_names(estimator: Any) -> bool:  # noqa: ANN401
    return getattr(estimator, "feature_names_in_", None) is not None


def _selects_columns(estimator: Any) -> bool:  # noqa: ANN401
    parts = [estimator]
    if hasattr(estimator, "get_params"):
        parts += estimator.get_params(deep=True).values()
    return any(isinstance(part, ColumnTransformer) for part in parts)


def _line(error: Exception) -> str:
    lines = f"{type(error).__name__}: {error}".strip().splitlines()
    return lines[0]
