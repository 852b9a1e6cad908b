"""Build a bundle from an estimator and data frames of any data set."""

from pathlib import Path
from typing import Any

import pandas as pd
from sklearn.base import clone
from threadpoolctl import threadpool_limits

from bundle.assemble import Assembly, Step
from bundle.checks import Recipe
from bundle.errors import UnmonitorableError
from bundle.frames import eaten
from bundle.manifest import Manifest, Validation
from bundle.prepare import Data, Measured, prepare
from bundle.samples import traffic_rows
from bundle.validate import FOLDS, cross_validate
from bundle.write import check_output


def build_bundle(  # noqa: PLR0913 three frames
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    recipe: Recipe,
    output: Path,
    *,
    drifted: pd.DataFrame | None = None,
    step: Step = lambda _: None,
) -> Manifest:
    """Cross-validate and fit a clone of `estimator`, and write the bundle directory `output`.

    Every frame holds all features and the target. The rows of `held_out` and `drifted` (another
    population, which demonstrates drift) are used by the simulated traffic. The same frames, recipe
    and libraries give the same bytes of `bundle.json`. The reference of the prediction is the
    distribution of cross-validated predictions: predictions on rows that the estimator was fitted
    to are distributed differently from those in production. `step` hears what is done next.
    Raises UnmonitorableError.
    """
    check_output(output)
    data = prepare(estimator, train, held_out, recipe, is_fitted=False)
    files = traffic_rows(recipe, train if held_out is None else held_out, drifted)
    # The last bits of parallel sums vary, and would change the model's bytes and its version.
    with threadpool_limits(1):
        step(f"cross-validating in {FOLDS} folds")
        outputs = cross_validate(estimator, data.given, data.codes, data.target, recipe.seed)
        promise = Measured(train, outputs, data.target.codes)
        step("fitting to all rows")
        fitted = clone(estimator).fit(data.given, data.target.values)
        validation = _validation(data, promise, _measure(data, fitted, held_out), folds=FOLDS)
        return Assembly(data, fitted, promise, validation, step).write(output, files)


def bundle_fitted(  # noqa: PLR0913 three frames
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    recipe: Recipe,
    output: Path,
    *,
    accept_in_sample: bool = False,
    drifted: pd.DataFrame | None = None,
    step: Step = lambda _: None,
) -> Manifest:
    """Write the bundle of a fitted estimator, as it is.

    The promise and the reference of the prediction are from the held-out rows. Without them, both
    are from the rows that the estimator was fitted to, which must be accepted.
    Raises UnmonitorableError.
    """
    if held_out is None and not accept_in_sample:
        raise UnmonitorableError(
            "no held-out rows: the errors on the training rows are too good a promise; give rows"
            " that the estimator was not fitted to (--held-out), or --accept-in-sample"
        )
    check_output(output)
    data = prepare(estimator, train, held_out, recipe, is_fitted=True)
    files = traffic_rows(recipe, train if held_out is None else held_out, drifted)
    with threadpool_limits(1):
        step("predicting")
        measured = _measure(data, estimator, held_out)
        promise = measured or Measured(
            train, data.predict(estimator, data.given), data.target.codes
        )
        validation = _validation(data, promise, measured, folds=0)
        return Assembly(data, estimator, promise, validation, step).write(output, files)


def _measure(data: Data, fitted: Any, held_out: pd.DataFrame | None) -> Measured | None:  # noqa: ANN401
    """Return the held-out rows with a fitted estimator's outputs, if there are any."""
    if held_out is None:
        return None
    given = eaten(held_out, data.recipe.features, data.input)
    return Measured(held_out, data.predict(fitted, given), data.target.encode(held_out))


def _validation(
    data: Data, promise: Measured, measured: Measured | None, *, folds: int
) -> Validation:
    promised = {f"cv_{name}": value for name, value in data.figures(promise).items()}
    return Validation(
        rows=len((measured or promise).frame),
        in_sample=not folds and measured is None,
        cv_folds=folds,
        **data.figures(measured or promise),
        **promised,
    )
