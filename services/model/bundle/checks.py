"""The conditions that a model and its data must meet to be monitored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bundle.arrays import Floats
from bundle.errors import UnmonitorableError
from bundle.manifest import (
    MAX_FEATURES,
    PREDICTION,
    REGRESSION_HEADLINES,
    SCORE,
    Feature,
    Headline,
    Input,
    Quantity,
    Task,
)
from bundle.skops import Saved

__all__ = ["Recipe", "UnmonitorableError"]

# Names with another meaning in metrics and in answers.
_TAKEN_BY_METRICS = (PREDICTION, SCORE, "_body", "_other")
_TAKEN_BY_ANSWERS = ("prediction_id", "model_version", "probabilities")
# Beyond this correlation, a number is the target in another unit.
_SAME = 1 - 1e-9


@dataclass(frozen=True)
class Recipe:
    """A model's name and the meaning of its columns; features are in the estimator's order.

    `headline` is the statistic that the accuracy alerts watch, `input` what the estimator eats:
    without them, the usual one of the task, and what the estimator accepts. `saved` is the skops
    file that a fitted estimator comes from; without it, the bundle has a pickle.
    """

    name: str
    target: Quantity
    features: Sequence[Feature]
    seed: int = 0
    headline: Headline | None = None
    input: Input | None = None
    saved: Saved | None = None


def check_names(recipe: Recipe) -> None:
    """Raise UnmonitorableError if a name is used twice or has another meaning."""
    names = [feature.name for feature in recipe.features]
    if len(set(names)) < len(names):
        raise UnmonitorableError("two features have the same name")
    if len({feature.source for feature in recipe.features}) < len(names):
        raise UnmonitorableError("two features are the same column of the estimator")
    if len(names) > MAX_FEATURES:
        raise UnmonitorableError(f"{len(names)} features: at most {MAX_FEATURES} can be served")
    for name in _TAKEN_BY_METRICS:
        if name in names:
            raise UnmonitorableError(
                f"a feature is called {name}, which is reserved for metrics: rename the column"
            )
    if recipe.target.name in _TAKEN_BY_ANSWERS:
        raise UnmonitorableError(
            f"the target is called {recipe.target.name}, which is reserved for answers:"
            " rename the column"
        )
    if recipe.target.name in names:
        raise UnmonitorableError(f"the target {recipe.target.name} is among the features")


def headline(recipe: Recipe, task: Task, found: Sequence[str]) -> Headline:
    """Return the task's headline. Raises UnmonitorableError if its figures lack the recipe's."""
    if recipe.headline is None:
        return "accuracy" if task == "classification" else "mae"
    possible = [*found] if task == "classification" else [*REGRESSION_HEADLINES]
    if recipe.headline not in possible:
        raise UnmonitorableError(
            f"the headline {recipe.headline} is no figure of this {task}:"
            f" choose one of {', '.join(possible)}"
        )
    return recipe.headline


def check_training_values(feature: Feature, values: Floats) -> None:
    """Raise UnmonitorableError if values (rows,) are constant or would be rejected."""
    check_accepted_values(feature, values)
    missing = np.isnan(values)
    if missing.all():
        raise UnmonitorableError(f"feature {feature.name}: no row has a value")
    try:
        check_not_constant(feature.name, values[~missing])
    except UnmonitorableError as error:
        raise UnmonitorableError(
            f"{error}; leave it out with `ignore: [{feature.name}]`, or if the estimator needs it,"
            " set `monitored: false`"
        ) from None


def check_accepted_values(feature: Feature, values: Floats) -> None:
    """Raise UnmonitorableError if the service would reject one of the codes (rows,)."""
    if np.isinf(values).any():
        raise UnmonitorableError(f"feature {feature.name}: an infinite value")
    missing = np.isnan(values)
    if missing.any() and not feature.nullable:
        raise UnmonitorableError(f"feature {feature.name}: {missing.sum()} rows have no value")
    known = values[~missing]
    if feature.type == "category":
        _check_unseen(feature, known)
        return
    if feature.type == "integer" and (known % 1 != 0).any():
        fraction = known[known % 1 != 0][0]
        raise UnmonitorableError(f"feature {feature.name}: {fraction:g} is not a whole number")
    if feature.type == "boolean" and not np.isin(known, (0, 1)).all():
        raise UnmonitorableError(f"feature {feature.name}: a value is neither true nor false")
    if feature.minimum is not None and (low := known.min(initial=np.inf)) < feature.minimum:
        raise UnmonitorableError(f"feature {feature.name}: {low:g} is below its minimum")
    if feature.maximum is not None and (high := known.max(initial=-np.inf)) > feature.maximum:
        raise UnmonitorableError(f"feature {feature.name}: {high:g} is above its maximum")


def _check_unseen(feature: Feature, codes: Floats) -> None:
    unseen = int((codes == len(feature.categories)).sum())
    if unseen and feature.unseen == "reject":
        raise UnmonitorableError(
            f"feature {feature.name}: {unseen} rows have a category that training has not"
        )


def check_not_constant(name: str, values: Floats) -> None:
    """Raise UnmonitorableError if all values (rows,) are equal."""
    if values.min() == values.max():
        raise UnmonitorableError(f"{name} is constant ({values[0]:g}): it cannot drift")


def check_not_leaked(feature: Feature, values: Floats, target: Floats, classes: int) -> None:
    """Raise UnmonitorableError if a feature (rows,) is the target (rows,) in another form."""
    known = ~np.isnan(values)
    if known.sum() < 2:  # noqa: PLR2004
        return
    leaks = _names_the_class if classes else _is_proportional
    if leaks(values[known], target[known]):
        raise UnmonitorableError(
            f"feature {feature.name} is the target in another form:"
            f" leave it out with `ignore: [{feature.name}]`"
        )


def _names_the_class(values: Floats, codes: Floats) -> bool:
    """Return whether each value belongs to one class, and each class has one value."""
    classes = len(np.unique(codes))
    if len(np.unique(values)) != classes or classes == 1:
        return False
    return len(np.unique(np.column_stack([values, codes]), axis=0)) == classes


def _is_proportional(values: Floats, target: Floats) -> bool:
    a, b = values - values.mean(), target - target.mean()
    product = float(np.sqrt((a @ a) * (b @ b)))
    return bool(product > 0 and abs(a @ b) > _SAME * product)
