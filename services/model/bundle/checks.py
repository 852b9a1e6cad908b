"""What a model and its data must be like to be monitored, and the words where they are not."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.manifest import PREDICTION, Feature, Quantity

# Names that answers and metrics give to something else.
_TAKEN_BY_METRICS = (PREDICTION, "_body", "_other")
_TAKEN_BY_ANSWERS = ("prediction_id", "model_version")


class UnmonitorableError(ValueError):
    """The data or its description cannot be monitored; the message says which and why."""


@dataclass(frozen=True)
class Recipe:
    """What a model is called and what its columns mean; features in the estimator's order."""

    name: str
    target: Quantity
    features: Sequence[Feature]
    seed: int = 0


def refuse_names(recipe: Recipe) -> None:
    """Refuse names that mean something else already."""
    names = [feature.name for feature in recipe.features]
    if len(set(names)) < len(names):
        raise UnmonitorableError("two features have one name")
    for name in _TAKEN_BY_METRICS:
        if name in names:
            raise UnmonitorableError(f"a feature is called {name}, as is something in the metrics")
    if recipe.target.name in _TAKEN_BY_ANSWERS:
        raise UnmonitorableError(
            f"the target is called {recipe.target.name}, as is part of answers"
        )


def refuse_values(feature: Feature, values: Floats) -> None:
    """Refuse training values (rows,) that are constant, infinite, missing or not allowed."""
    refuse_what_the_service_rejects(feature, values)
    missing = np.isnan(values)
    if missing.all():
        raise UnmonitorableError(f"feature {feature.name}: no row has a value")
    refuse_constant(feature.name, values[~missing])


def refuse_what_the_service_rejects(feature: Feature, values: Floats) -> None:
    """Refuse values (rows,) that are infinite, missing or not allowed."""
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


def refuse_constant(name: str, values: Floats) -> None:
    """Refuse values (rows,) that are all the same."""
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
