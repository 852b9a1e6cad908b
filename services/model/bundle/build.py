"""Build a bundle from a scikit-learn regressor and data frames of any data set."""

import hashlib
import json
import os
import platform
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import joblib
import numpy as np
import pandas as pd
import sklearn
from sklearn.base import clone
from sklearn.model_selection import GroupKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from bundle.arrays import Floats
from bundle.checks import (
    Recipe,
    UnmonitorableError,
    check_accepted_values,
    check_names,
    check_not_constant,
    check_training_values,
    column,
    matrix,
)
from bundle.compile import NotCompilableError, compile_trees
from bundle.manifest import (
    DRIFTED_FILE,
    ESTIMATOR_FILE,
    HELD_OUT_FILE,
    MANIFEST_FILE,
    PREDICTION,
    REFERENCE_FILE,
    REFERENCE_ROWS,
    TRAFFIC_ROWS,
    TRAINED_AT_FILE,
    TREES_FILE,
    Feature,
    Manifest,
    Reference,
    Validation,
)
from bundle.reference import describe

MIN_ROWS = 200
FOLDS = 5


class Regressor(Protocol):
    """The interface of a scikit-learn regressor."""

    def fit(self, X: Floats, y: Floats) -> Any: ...  # noqa: ANN401, D102, N803
    def predict(self, X: Floats) -> Floats: ...  # noqa: D102, N803


def build_bundle(  # noqa: PLR0913 three frames
    estimator: Regressor,
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    recipe: Recipe,
    output: Path,
    *,
    drifted: pd.DataFrame | None = None,
) -> Manifest:
    """Cross-validate and fit a clone of `estimator`, and write the bundle directory `output`.

    Every frame holds all features and the target. The rows of `held_out` and `drifted` (another
    population, which demonstrates drift) are used by the simulated traffic. The same frames, recipe
    and libraries give the same bytes of `bundle.json`. The reference of the prediction is the
    distribution of cross-validated predictions: predictions on rows that the estimator was fitted
    to are distributed differently from those in production.
    Raises UnmonitorableError.
    """
    check_names(recipe)
    features, target = matrix(train, recipe), column(train, recipe.target.name)
    references = _references(features, recipe)
    # The last bits of parallel sums vary, and would change the model's bytes and its version.
    with threadpool_limits(1):
        cv_predictions = _cross_validate(estimator, features, target, recipe.seed)
        fitted = clone(estimator).fit(features, target)
    check_not_constant(PREDICTION, cv_predictions)
    cv_errors = cv_predictions - target
    held_out_errors = fitted.predict(matrix(held_out, recipe)) - column(
        held_out, recipe.target.name
    )
    files = {
        ESTIMATOR_FILE: _dump(fitted),
        REFERENCE_FILE: _reference_rows(train, recipe, cv_predictions),
        **_traffic_rows({HELD_OUT_FILE: held_out, DRIFTED_FILE: drifted}, recipe),
        **_compiled(fitted, features),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    manifest = Manifest(
        format=1,
        name=recipe.name,
        version=digests[ESTIMATOR_FILE][:12],
        task="regression",
        algorithm=_algorithm(fitted),
        target=recipe.target,
        features=tuple(map(_with_example, recipe.features, features.T)),
        rows=len(train),
        reference=(
            *references,
            describe(PREDICTION, cv_predictions, absolute_errors=np.abs(cv_errors)),
        ),
        validation=Validation(
            mae=_mae(held_out_errors),
            rmse=_rmse(held_out_errors),
            rows=len(held_out),
            cv_mae=_mae(cv_errors),
            cv_rmse=_rmse(cv_errors),
            cv_folds=FOLDS,
        ),
        libraries={
            "python": platform.python_version(),
            "numpy": np.__version__,
            "scikit-learn": sklearn.__version__,
        },
        files=digests,
    )
    _write(output, manifest, files)
    return manifest


def _with_example(feature: Feature, values: Floats) -> Feature:
    """Return the feature with an example: the median of its training values if it has none.

    An example that the API documentation made up might be rejected by the service.
    """
    if feature.example is not None:
        return feature
    median = np.nanquantile(values, 0.5, method="nearest")
    return feature.model_copy(update={"example": float(median)})


def _reference_rows(train: pd.DataFrame, recipe: Recipe, predictions: Floats) -> bytes:
    """Return training rows as CSV, each with its cross-validated prediction."""
    rows = train[_columns(recipe)].assign(**{PREDICTION: predictions})
    return _csv(rows, REFERENCE_ROWS, recipe.seed)


def _traffic_rows(frames: dict[str, pd.DataFrame | None], recipe: Recipe) -> dict[str, bytes]:
    """Return a CSV file for each given frame. Raises UnmonitorableError.

    The service must accept every row.
    """
    files = {}
    for name, frame in frames.items():
        if frame is None:
            continue
        for feature in recipe.features:
            try:
                check_accepted_values(feature, column(frame, feature.name))
            except UnmonitorableError as error:
                raise UnmonitorableError(f"{name}: {error}") from error
        column(frame, recipe.target.name)
        files[name] = _csv(frame[_columns(recipe)], TRAFFIC_ROWS, recipe.seed)
    return files


def _columns(recipe: Recipe) -> list[str]:
    return [*(feature.name for feature in recipe.features), recipe.target.name]


def _csv(rows: pd.DataFrame, at_most: int, seed: int) -> bytes:
    """Return a table as CSV, or a seeded sample of it if it has more than `at_most` rows."""
    if len(rows) > at_most:
        rows = rows.sample(at_most, random_state=seed)
    return rows.to_csv(index=False, lineterminator="\n").encode()


def _references(features: Floats, recipe: Recipe) -> list[Reference]:
    """Return each feature's reference. Raises UnmonitorableError."""
    rows = len(features)
    if rows < MIN_ROWS:
        raise UnmonitorableError(
            f"{rows} training rows: at least {MIN_ROWS} are needed to separate drift from noise"
        )
    references = []
    for feature, values in zip(recipe.features, features.T, strict=True):
        check_training_values(feature, values)
        references.append(describe(feature.name, values, nullable=feature.nullable))
    return references


def _cross_validate(estimator: Regressor, features: Floats, target: Floats, seed: int) -> Floats:
    """Return the prediction of each training row by a model that was not fitted to it.

    Equal rows are in the same fold, so that a row's duplicates are not in its training set either.
    """
    if not np.isfinite(target).all():
        raise UnmonitorableError("the target has rows without a finite value")
    groups = np.unique(features, axis=0, return_inverse=True)[1].ravel()
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    predictions: Floats = cross_val_predict(estimator, features, target, groups=groups, cv=folds)
    return predictions.astype(np.float64)


def _algorithm(fitted: Any) -> str:  # noqa: ANN401
    """Return the class name of the estimator, or of the last step of a pipeline."""
    return type(fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted).__name__


def _mae(errors: Floats) -> float:
    return float(np.abs(errors).mean())


def _rmse(errors: Floats) -> float:
    return float(np.sqrt((errors**2).mean()))


def _dump(fitted: Any) -> bytes:  # noqa: ANN401
    buffer = BytesIO()
    joblib.dump(fitted, buffer)
    return buffer.getvalue()


def _compiled(fitted: Any, features: Floats) -> dict[str, bytes]:  # noqa: ANN401
    """Return the file of the compiled form if the estimator has one with equal predictions."""
    try:
        tables = compile_trees(fitted)
    except NotCompilableError:
        return {}
    if not np.array_equal(tables.predict(features), fitted.predict(features)):
        return {}
    return {TREES_FILE: tables.to_bytes()}


def _write(output: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the files; `bundle.json` comes last, so that an incomplete bundle never loads."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST_FILE, TREES_FILE, HELD_OUT_FILE, DRIFTED_FILE):
        (output / name).unlink(missing_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(content)
    (output / TRAINED_AT_FILE).write_text(_now() + "\n")
    text = json.dumps(manifest.model_dump(exclude_none=True), indent=1, ensure_ascii=False)
    (output / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def _now() -> str:
    """Return the time, or SOURCE_DATE_EPOCH if it is set, for a reproducible build."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
