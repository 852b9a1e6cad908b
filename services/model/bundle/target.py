"""What a model predicts: a number, or one of the classes that its training rows have."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import is_classifier

from bundle.arrays import Floats
from bundle.errors import UnmonitorableError
from bundle.frames import numbers, require_column
from bundle.manifest import Task, Value

# More classes than this are rather a number, or an identifier.
MAX_CLASSES = 1_000
# Of more classes, the probabilities of 10,000 rows would fill megabytes.
MAX_LISTED_CLASSES = 50


@dataclass(frozen=True)
class Target:
    """The target of the training rows.

    `values` (rows,) are what the estimator is fitted to, `codes` (rows,) the same as numbers:
    indices of `classes`, or the values themselves.
    """

    name: str
    task: Task
    values: Any
    codes: Floats
    classes: tuple[Value, ...] = ()
    probabilities: bool = False

    def encode(self, frame: pd.DataFrame) -> Floats:
        """Return the actual values (rows,) of a frame, or their class codes.

        Raises UnmonitorableError.
        """
        if self.task == "regression":
            return _finite(frame, self.name)
        return _class_codes(frame, self.name, self.classes)

    def labels(self, codes: Floats) -> list[Value]:
        """Return predictions (n,) as they are answered: numbers, or classes."""
        if self.task == "regression":
            return codes.tolist()  # type: ignore[no-any-return]
        return [self.classes[int(code)] for code in codes]

    def probabilities_by_name(self, outputs: Floats) -> dict[str, Floats]:
        """Return the probabilities (n,) of each class as `probability_<class>`.

        There are none if the model has none, or too many classes to list them.
        """
        if not self.probabilities or len(self.classes) > MAX_LISTED_CLASSES:
            return {}
        names = [each if isinstance(each, str) else json.dumps(each) for each in self.classes]
        return {f"probability_{name}": outputs[:, code] for code, name in enumerate(names)}

    def check(self, held_out: pd.DataFrame | None) -> None:
        """Raise UnmonitorableError if held-out rows lack a class, and so its figures."""
        if held_out is None:
            return
        codes = self.encode(held_out)
        for code, value in enumerate(self.classes):
            if not (codes == code).any():
                raise UnmonitorableError(
                    f"the held-out rows have none of class {value!r}: hold out some of each class"
                )

    def without_probabilities(self) -> "Target":
        """Return the target of a model that answers the class alone."""
        return replace(self, probabilities=False)


def find_target(estimator: Any, train: pd.DataFrame, name: str, *, is_fitted: bool) -> Target:  # noqa: ANN401
    """Return what an estimator predicts. Raises UnmonitorableError."""
    if not _predicts_classes(estimator):
        values = _finite(train, name)
        return Target(name, "regression", values, values)
    require_column(train, name)
    column = train[name]
    if column.isna().any():
        raise UnmonitorableError(f"the target has {column.isna().sum()} rows without a value")
    classes = _classes(estimator, column, is_fitted=is_fitted)
    return Target(
        name,
        "classification",
        values=_as_fitted(column),
        codes=_class_codes(train, name, classes),
        classes=classes,
        probabilities=hasattr(estimator, "predict_proba"),
    )


def _predicts_classes(estimator: Any) -> bool:  # noqa: ANN401
    try:
        return bool(is_classifier(estimator))
    except AttributeError:
        # A regressor of CatBoost has none, in a list.
        return len(getattr(estimator, "classes_", ())) > 0


def _classes(estimator: Any, column: "pd.Series[Any]", *, is_fitted: bool) -> tuple[Value, ...]:  # noqa: ANN401
    found = np.unique(_as_fitted(column)).tolist()
    classes = np.asarray(estimator.classes_).reshape(-1).tolist() if is_fitted else found
    if len(classes) < 2:  # noqa: PLR2004
        raise UnmonitorableError(f"the target has a single class ({classes[0]!r}): nothing to tell")
    if len(classes) > MAX_CLASSES:
        raise UnmonitorableError(
            f"the target has {len(classes)} classes, more than {MAX_CLASSES}: fit a regressor"
        )
    # 1 and 1.0 are equal: the data decide which it is.
    written = {value: value for value in found}
    return tuple(written.get(value, value) for value in classes)


def _as_fitted(column: "pd.Series[Any]") -> Any:  # noqa: ANN401
    """Return classes as NumPy has them; text is of objects, whatever pandas stores it in."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return column.to_numpy()
    return column.astype(object).infer_objects().to_numpy(dtype=object)


def _class_codes(frame: pd.DataFrame, name: str, classes: tuple[Value, ...]) -> Floats:
    require_column(frame, name)
    codes = {value: float(code) for code, value in enumerate(classes)}
    values = _as_fitted(frame[name]).tolist()
    for value in values:
        if value not in codes:
            raise UnmonitorableError(
                f"the target has the class {value!r}, which training has not: {[*classes]}"
            )
    return np.array([codes[value] for value in values])


def _finite(frame: pd.DataFrame, name: str) -> Floats:
    values = numbers(frame, name)
    if not np.isfinite(values).all():
        raise UnmonitorableError("the target has rows without a finite value")
    return values
