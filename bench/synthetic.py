"""A synthetic model with many features, to measure costs that grow with their number."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression

from bench.servers import Row
from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.manifest import Feature, Quantity

_ROWS = 1200


def synthetic(features: int, output: Path) -> Row:
    """Write the bundle of a linear model; return a valid row."""
    random = np.random.default_rng(0)
    names = [f"feature_{number:03d}" for number in range(features)]
    values = random.normal(5, 2, (_ROWS, features))
    frame = pd.DataFrame(values, columns=names)
    frame["target"] = values.sum(axis=1) + random.normal(0, 1, _ROWS)
    recipe = Recipe(
        name="synthetic",
        target=Quantity(name="target", description="A sum"),
        features=[Feature(name=name, description="Synthetic") for name in names],
    )
    half = _ROWS // 2
    build_bundle(LinearRegression(), frame[:half], frame[half:], recipe, output)
    return dict(zip(names, values[0].tolist(), strict=True))
