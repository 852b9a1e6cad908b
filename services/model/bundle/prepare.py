"""The rows of a bundle to be, checked: features as codes, what the estimator eats, the target."""

from dataclasses import dataclass
from typing import Any

import pandas as pd

from bundle.arrays import Floats
from bundle.blocks import in_blocks
from bundle.checks import (
    Recipe,
    check_accepted_values,
    check_names,
    check_not_leaked,
    check_training_values,
)
from bundle.diet import choose_input
from bundle.errors import UnmonitorableError
from bundle.estimator import predictor
from bundle.figures import figures
from bundle.frames import dtypes, eaten, matrix
from bundle.manifest import Input
from bundle.segments import check_segments
from bundle.target import Target, find_target

MIN_ROWS = 200
MIN_HELD_OUT_ROWS = 50


@dataclass(frozen=True)
class Data:
    """The training rows: what the estimator eats, codes (rows, features), and the target."""

    recipe: Recipe
    train: pd.DataFrame
    held_out: pd.DataFrame | None
    codes: Floats
    given: Any
    input: Input
    target: Target

    def predict(self, fitted: Any, given: Any) -> Floats:  # noqa: ANN401
        """Return an estimator's outputs (see bundle.estimator) of what it eats."""
        target = self.target
        predict = predictor(fitted, target.classes, probabilities=target.probabilities)
        return in_blocks(predict, given)

    def figures(self, measured: "Measured") -> dict[str, float]:
        """Return the figures of measured rows."""
        return figures(measured.outputs, measured.actual, len(self.target.classes))


@dataclass(frozen=True)
class Measured:
    """Rows with outputs (see bundle.estimator), and their actual values or class codes (rows,)."""

    frame: pd.DataFrame
    outputs: Floats
    actual: Floats


def prepare(
    estimator: Any,  # noqa: ANN401
    train: pd.DataFrame,
    held_out: pd.DataFrame | None,
    recipe: Recipe,
    *,
    is_fitted: bool,
) -> Data:
    """Return the data of a bundle after checking all of it. Raises UnmonitorableError."""
    check_names(recipe)
    check_segments(recipe.features)
    codes = matrix(train, recipe.features)
    if len(train) < MIN_ROWS:
        raise UnmonitorableError(
            f"{len(train)} training rows: at least {MIN_ROWS} are needed"
            " to separate drift from noise"
        )
    for feature, values in zip(recipe.features, codes.T, strict=True):
        (check_training_values if feature.monitored else check_accepted_values)(feature, values)
    target = find_target(estimator, train, recipe.target.name, is_fitted=is_fitted)
    for feature, values in zip(recipe.features, codes.T, strict=True):
        check_not_leaked(feature, values, target.codes, len(target.classes))
    _check_held_out(held_out, recipe, target)
    given = recipe.input or choose_input(
        estimator, train, recipe.features, target.values, is_fitted=is_fitted
    )
    rows = eaten(train, recipe.features, given) if _needs_own_form(given, recipe) else codes
    if given.kind == "frame":
        given = Input(kind="frame", dtypes=dtypes(pd.DataFrame(rows)))
    return Data(recipe, train, held_out, codes, rows, given, target)


def _needs_own_form(given: Input, recipe: Recipe) -> bool:
    return given.kind == "frame" or any(each.type == "category" for each in recipe.features)


def _check_held_out(held_out: pd.DataFrame | None, recipe: Recipe, target: Target) -> None:
    if held_out is None:
        return
    for name in (*(feature.name for feature in recipe.features), target.name):
        if name not in held_out:
            raise UnmonitorableError(f"held-out rows: column {name} is not in the data frame")
    if len(held_out) < MIN_HELD_OUT_ROWS:
        raise UnmonitorableError(
            f"{len(held_out)} held-out rows: at least {MIN_HELD_OUT_ROWS} are needed for a promise"
        )
    target.check(held_out)
