"""Feeds an estimator what it eats: a matrix, or a DataFrame made of the rows."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.encode import Cell
from bundle.manifest import Feature, Manifest, Value

if TYPE_CHECKING:
    import pandas as pd

Rows = Sequence[Sequence[Cell]]


class Model(Protocol):
    """What the service predicts with."""

    def predict(self, rows: Rows, codes: Floats) -> Floats:
        """Return the outputs of n rows, given as they were sent and as codes (n, features).

        A regression has its predictions (n,), a classification its probabilities (n, classes) or,
        without them, the codes (n,) of the predicted classes. Raises ValueError for a row that it
        rejects.
        """


class CodesModel:
    """Wraps what predicts from codes: a compiled estimator, or one of numbers only."""

    def __init__(self, predict: Callable[[Floats], Floats]) -> None:
        self.predict_codes = predict

    def predict(self, rows: Rows, codes: Floats) -> Floats:  # noqa: ARG002 the interface
        """Return the outputs of codes (n, features); the rows are not needed."""
        return self.predict_codes(codes)


class RowsModel:
    """Wraps an estimator that eats categories as they are, in a DataFrame or a matrix."""

    def __init__(self, predict: Callable[[Any], Floats], build: Callable[[Rows], Any]) -> None:
        self._predict = predict
        self._build = build

    def predict(self, rows: Rows, codes: Floats) -> Floats:  # noqa: ARG002 the interface
        """Return the outputs of rows; the codes are not needed."""
        return self._predict(self._build(rows))


def wrap(estimator: Any, manifest: Manifest) -> Model:  # noqa: ANN401
    """Return the model that an unpickled estimator is."""
    predict = predictor(estimator, manifest.classes, probabilities=manifest.probabilities)
    if manifest.input.kind == "frame":
        return RowsModel(predict, FrameBuilder(manifest.features, manifest.input.dtypes))
    if any(feature.type == "category" for feature in manifest.features):
        return RowsModel(predict, objects)
    return CodesModel(predict)


def predictor(
    estimator: Any,  # noqa: ANN401
    classes: Sequence[Value],
    *,
    probabilities: bool,
) -> Callable[[Any], Floats]:
    """Return a function from what the estimator eats to its outputs (see Model)."""
    call = _catboosts if _is_catboosts(estimator) else _plain
    if probabilities:
        predict_proba = call(estimator, "predict_proba")
        return lambda given: np.asarray(predict_proba(given), dtype=np.float64)
    predict = call(estimator, "predict")
    if not classes:
        return lambda given: np.asarray(predict(given), dtype=np.float64).reshape(-1)
    codes = {value: float(code) for code, value in enumerate(classes)}
    return lambda given: np.array(
        [codes[value] for value in np.asarray(predict(given)).reshape(-1).tolist()]
    )


def _plain(estimator: Any, method: str) -> Callable[[Any], Any]:  # noqa: ANN401
    def predict(given: Any) -> Any:  # noqa: ANN401
        return getattr(estimator, method)(given)

    return predict


def _catboosts(estimator: Any, method: str) -> Callable[[Any], Any]:  # noqa: ANN401
    """Return a method of CatBoost on one thread; it rejects a row with an error of its own."""
    from catboost import CatBoostError  # noqa: PLC0415 only these models need it

    def predict(given: Any) -> Any:  # noqa: ANN401
        try:
            return getattr(estimator, method)(given, thread_count=1)
        except CatBoostError as error:
            raise ValueError(str(error)) from error

    return predict


def _is_catboosts(estimator: Any) -> bool:  # noqa: ANN401
    last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return type(last).__module__.partition(".")[0] == "catboost"


def with_one_thread(estimator: Any) -> Any:  # noqa: ANN401
    """Return an estimator after setting each `n_jobs` of it to 1: the workers share the cores."""
    names = estimator.get_params() if hasattr(estimator, "get_params") else ()
    threads = {name: 1 for name in names if name.rpartition("__")[2] == "n_jobs"}
    return estimator.set_params(**threads) if threads else estimator


def objects(rows: Rows) -> NDArray[np.object_]:
    """Return rows as a matrix of objects; a missing category is NaN, as pandas has it."""
    matrix = np.array([*map(tuple, rows)], dtype=object)
    matrix[matrix == None] = np.nan  # noqa: E711 elementwise
    return matrix


class FrameBuilder:
    """Makes a DataFrame of rows, with the column types that the estimator was fitted to."""

    def __init__(self, features: Sequence[Feature], dtypes: dict[str, str]) -> None:
        import pandas as pd  # noqa: PLC0415 takes 0.3 s; most models do not need it

        self._pandas = pd
        self._columns = [(each, dtypes.get(each.source, "float64")) for each in features]
        self._are_floats = all(dtype == "float64" for _, dtype in self._columns)

    def __call__(self, rows: Rows) -> "pd.DataFrame":
        """Return n rows as a DataFrame (n, features)."""
        if self._are_floats:
            names = [feature.source for feature, _ in self._columns]
            return self._pandas.DataFrame(np.array(rows, dtype=np.float64), columns=names)
        columns = zip(self._columns, zip(*rows, strict=True), strict=True)
        return self._pandas.DataFrame(
            {
                feature.source: self._array(feature, dtype, cells)
                for (feature, dtype), cells in columns
            },
        )

    def _array(self, feature: Feature, dtype: str, cells: Sequence[Cell]) -> Any:  # noqa: ANN401
        if feature.type == "datetime":
            return self._datetimes(np.array(cells, dtype=np.float64))
        known = [None if _is_missing(cell) else cell for cell in cells]
        if dtype == "category":
            return self._pandas.Categorical(known, categories=_categories(feature, known))
        if dtype.startswith(("int", "uint", "bool")) and None in known:
            # As pandas reads a column of integers or booleans with gaps.
            dtype = "object" if dtype == "bool" else "float64"
        if dtype.startswith(("int", "uint", "bool", "float")):
            return np.array(cells, dtype=dtype)
        if dtype == "object":
            values = np.array(known, dtype=object)
            values[values == None] = np.nan  # noqa: E711 elementwise
            return values
        column: Any = self._pandas.Series(known, dtype=dtype).array
        return column

    def _datetimes(self, seconds: Floats) -> "pd.DatetimeIndex":
        return self._pandas.to_datetime(np.round(seconds * 1e6) * 1e3, unit="ns", utc=True)


def _is_missing(cell: Cell) -> bool:
    return cell is None or cell != cell  # noqa: PLR0124 NaN


def _categories(feature: Feature, cells: Sequence[Cell]) -> list[Cell]:
    """Return the known categories, and any unseen ones after them."""
    known = set(feature.categories)
    return [
        *feature.categories,
        *dict.fromkeys(c for c in cells if c is not None and c not in known),
    ]
