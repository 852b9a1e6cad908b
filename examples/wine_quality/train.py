"""Build the bundle of the example model."""

from pathlib import Path

import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.manifest import Feature, Manifest, Quantity
from wine_quality.data import SEED, TARGET, rows, split

NAME = "wine-quality"
GRAMS = "g/dm³"
MILLIGRAMS = "mg/dm³"


def _feature(
    name: str, description: str, unit: str, example: float, maximum: float | None = None
) -> Feature:
    """Return a feature that cannot be negative, like every measurement of a wine."""
    return Feature(
        name=name, description=description, unit=unit, minimum=0, maximum=maximum, example=example
    )


RECIPE = Recipe(
    name=NAME,
    seed=SEED,
    target=Quantity(
        name=TARGET,
        description="Grade by wine tasters, from 0 (very bad) to 10 (excellent)",
        minimum=0,
        maximum=10,
    ),
    features=(
        _feature("fixed_acidity", "Tartaric acid", GRAMS, 7.4),
        _feature("volatile_acidity", "Acetic acid", GRAMS, 0.7),
        _feature("citric_acid", "Citric acid", GRAMS, 0.0),
        _feature("residual_sugar", "Sugar left after fermentation", GRAMS, 1.9),
        _feature("chlorides", "Sodium chloride", GRAMS, 0.076),
        _feature("free_sulfur_dioxide", "Free sulfur dioxide", MILLIGRAMS, 11.0),
        _feature("total_sulfur_dioxide", "Free and bound sulfur dioxide", MILLIGRAMS, 34.0),
        _feature("density", "Density", "g/cm³", 0.9978),
        _feature("ph", "Acidity (low) or basicity (high)", "pH", 3.51, maximum=14),
        _feature("sulphates", "Potassium sulphate", GRAMS, 0.56),
        _feature("alcohol_pct_vol", "Alcohol by volume", "%", 9.4, maximum=100),
    ),
)


def train(output: Path) -> Manifest:
    """Train on the red wines that are not held out, and write the bundle to `output`.

    The white wines, which training has not seen, are the drifted rows.
    """
    train_rows, held_out_rows = map(pd.DataFrame, split(rows("red")))
    estimator = make_pipeline(
        StandardScaler(), HistGradientBoostingRegressor(max_iter=50, random_state=SEED)
    )
    white = pd.DataFrame(rows("white"))
    return build_bundle(estimator, train_rows, held_out_rows, RECIPE, output, drifted=white)
