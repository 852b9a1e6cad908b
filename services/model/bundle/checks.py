"""The conditions that a model and its data must meet to be monitored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Feature, Quantity

# Names with another meaning in metrics and in answers.
_TAKEN_BY_METRICS = (PREDICTION, "_body", "_other")
_TAKEN_BY_ANSWERS = ("prediction_id", "model_version")


class UnmonitorableError(ValueError):
    """The data or its description cannot be monitored; the message names the reason."""


@dataclass(frozen=True)
class Recipe:
    """A model's name and the meaning of its columns; features are in the estimator's order."""

    name: str
    target: Quantity
    features: Sequence[Feature]
    seed: int = 0


def check_names(recipe: Recipe) -> None:
    """Raise UnmonitorableError if a name is used twice or has another meaning."""
    names = [feature.name for feature in recipe.features]
    if len(set(names)) < len(names):
        raise UnmonitorableError("two features have the same name")
    for name in _TAKEN_BY_METRICS:
        if name in names:
            raise UnmonitorableError(f"a feature is called {name}, which is reserved for metrics")
    if recipe.target.name in _TAKEN_BY_ANSWERS:
        raise UnmonitorableError(
            f"the target is called {recipe.target.name}, which is reserved for answers"
        )


def check_training_values(feature: Feature, values: Floats) -> None:
    """Raise UnmonitorableError if values (rows,) are constant or would be rejected."""
    check_accepted_values(feature, values)
    missing = np.isnan(values)
    if missing.all():
        raise UnmonitorableError(f"feature {feature.name}: no row has a value")
    check_not_constant(feature.name, values[~missing])


def check_accepted_values(feature: Feature, values: Floats) -> None:
    """Raise UnmonitorableError if the service would reject one of the values (rows,)."""
    if np.isinf(values).any():
        raise UnmonitorableError(f"feature {feature.name}: an infinite value")
    missing = np.isnan(values)
    if missing.any() and not feature.nullable:
        raise UnmonitorableError(f"feature {feature.name}: {missing.sum()} rows have no value")
    known = values[~missing]
    if feature.minimum is not None and (low := known.min(initial=np.inf)) < feature.minimum:
        raise UnmonitorableError(f"feature {feature.name}: {low:g} is below its minimum")
    if feature.maximum is not None and (high := known.max(initial=-np.inf)) > feature.maximum:
        raise UnmonitorableError(f"feature {feature.name}: {high:g} is above its maximum")


def check_not_constant(name: str, values: Floats) -> None:
    """Raise UnmonitorableError if all values (rows,) are equal."""
    if values.min() == values.max():
        raise UnmonitorableError(f"{name} is constant ({values[0]:g}): it cannot drift")


def matrix(frame: pd.DataFrame, recipe: Recipe) -> Floats:
    """Return the features as (rows, features). Raises UnmonitorableError."""
    return np.column_stack([column(frame, feature.name) for feature in recipe.features])


def column(frame: pd.DataFrame, name: str) -> Floats:
    """Return one column (rows,), NaN where missing. Raises UnmonitorableError."""
    if name not in frame:
        raise UnmonitorableError(f"column {name} is not in the data frame")
    try:
        return frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError) as error:
        raise UnmonitorableError(f"column {name} is not numeric: {error}") from error
