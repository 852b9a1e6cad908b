"""Build a bundle from any scikit-learn regressor and a data frame. Knows nothing of any dataset."""

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
    column,
    matrix,
    refuse_constant,
    refuse_names,
    refuse_values,
    refuse_what_the_service_rejects,
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
    """What scikit-learn calls a regressor."""

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

    Every frame holds all features and the target. `held_out` and `drifted` (another population,
    to show drift with) become rows of the simulated traffic. The same frames, recipe and libraries
    give the same bytes of `bundle.json`. Cross-validated predictions, not those on rows the
    estimator was fitted to, are the reference of the prediction: they are distributed as
    production's will be.
    Raises UnmonitorableError.
    """
    refuse_names(recipe)
    features, target = matrix(train, recipe), column(train, recipe.target.name)
    references = _references(features, recipe)
    # Parallel sums differ in their last bits, and with them the model's bytes and its version.
    with threadpool_limits(1):
        cv_predictions = _cross_validate(estimator, features, target, recipe.seed)
        fitted = clone(estimator).fit(features, target)
    refuse_constant(PREDICTION, cv_predictions)
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
    """Return a feature that has an example: the documentation would show one that is refused."""
    if feature.example is not None:
        return feature
    median = np.nanquantile(values, 0.5, method="nearest")
    return feature.model_copy(update={"example": float(median)})


def _reference_rows(train: pd.DataFrame, recipe: Recipe, predictions: Floats) -> bytes:
    """Return training rows as CSV, each with its cross-validated prediction."""
    rows = train[_columns(recipe)].assign(**{PREDICTION: predictions})
    return _csv(rows, REFERENCE_ROWS, recipe.seed)


def _traffic_rows(frames: dict[str, pd.DataFrame | None], recipe: Recipe) -> dict[str, bytes]:
    """Return the CSV file of each frame that is given; the service must accept every row."""
    files = {}
    for name, frame in frames.items():
        if frame is None:
            continue
        for feature in recipe.features:
            try:
                refuse_what_the_service_rejects(feature, column(frame, feature.name))
            except UnmonitorableError as error:
                raise UnmonitorableError(f"{name}: {error}") from error
        column(frame, recipe.target.name)
        files[name] = _csv(frame[_columns(recipe)], TRAFFIC_ROWS, recipe.seed)
    return files


def _columns(recipe: Recipe) -> list[str]:
    return [*(feature.name for feature in recipe.features), recipe.target.name]


def _csv(rows: pd.DataFrame, at_most: int, seed: int) -> bytes:
    """Return a table as CSV, of more than `at_most` rows a seeded sample."""
    if len(rows) > at_most:
        rows = rows.sample(at_most, random_state=seed)
    return rows.to_csv(index=False, lineterminator="\n").encode()


def _references(features: Floats, recipe: Recipe) -> list[Reference]:
    """Return each feature's reference, refusing what cannot be monitored."""
    rows = len(features)
    if rows < MIN_ROWS:
        raise UnmonitorableError(
            f"{rows} training rows: fewer than {MIN_ROWS} cannot tell drift from noise"
        )
    references = []
    for feature, values in zip(recipe.features, features.T, strict=True):
        refuse_values(feature, values)
        references.append(describe(feature.name, values, nullable=feature.nullable))
    return references


def _cross_validate(estimator: Regressor, features: Floats, target: Floats, seed: int) -> Floats:
    """Return each training row's prediction by a model that never saw it, nor a duplicate of it."""
    if not np.isfinite(target).all():
        raise UnmonitorableError("the target has rows without a finite value")
    groups = np.unique(features, axis=0, return_inverse=True)[1].ravel()
    folds = GroupKFold(FOLDS, shuffle=True, random_state=seed)
    predictions: Floats = cross_val_predict(estimator, features, target, groups=groups, cv=folds)
    return predictions.astype(np.float64)


def _algorithm(fitted: Any) -> str:  # noqa: ANN401
    """Return the name of the last step of a pipeline, or of the estimator itself."""
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
    """Return the compiled form's file, if there is one and it predicts the very same numbers."""
    try:
        tables = compile_trees(fitted)
    except NotCompilableError:
        return {}
    if not np.array_equal(tables.predict(features), fitted.predict(features)):
        return {}
    return {TREES_FILE: tables.to_bytes()}


def _write(output: Path, manifest: Manifest, files: dict[str, bytes]) -> None:
    """Write the files; `bundle.json` last, so that a half-written bundle never loads."""
    output.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST_FILE, TREES_FILE, HELD_OUT_FILE, DRIFTED_FILE):
        (output / name).unlink(missing_ok=True)
    for name, content in files.items():
        (output / name).write_bytes(content)
    (output / TRAINED_AT_FILE).write_text(_now() + "\n")
    text = json.dumps(manifest.model_dump(exclude_none=True), indent=1, ensure_ascii=False)
    (output / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def _now() -> str:
    """Return the time, or SOURCE_DATE_EPOCH where a build must be reproducible."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
