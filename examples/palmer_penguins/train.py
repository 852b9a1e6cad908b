"""Build the bundle of the classification example."""

from pathlib import Path

import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.infer import Column, infer
from bundle.manifest import Feature, Manifest, Quantity
from palmer_penguins.data import SEED, TARGET, rows, split

NAME = "palmer-penguins"
# Descriptions and units; measurements cannot be negative.
MEASUREMENTS = {
    "bill_length_mm": ("Length of the bill", "mm"),
    "bill_depth_mm": ("Depth of the bill", "mm"),
    "flipper_length_mm": ("Length of a flipper", "mm"),
    "body_mass_g": ("Body mass", "g"),
}
CATEGORIES = {
    "island": "Island of the Palmer Archipelago where the penguin was seen",
    "sex": "Sex, if it could be determined",
}


def features(train: pd.DataFrame, held_out: pd.DataFrame) -> list[Feature]:
    """Return the columns' features. Any measurement may be missing, an island is always known."""
    found = []
    for name, (description, unit) in MEASUREMENTS.items():
        feature = infer(Column(name, "number", nullable=True), train, held_out)
        own = {"description": description, "unit": unit, "minimum": 0.0}
        found.append(feature.model_copy(update=own))
    for name, description in CATEGORIES.items():
        feature = infer(Column(name, "category"), train, held_out)
        found.append(feature.model_copy(update={"description": description}))
    return found


def estimator() -> Pipeline:
    """Return the unfitted model: imputed and scaled numbers, one column for each category."""
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer(
        (numbers, [*MEASUREMENTS]),
        (OneHotEncoder(handle_unknown="ignore"), [*CATEGORIES]),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1_000))


def train(output: Path) -> Manifest:
    """Train on the penguins that are not held out, and write the bundle to `output`."""
    train_rows, held_out_rows = split(rows())
    recipe = Recipe(
        name=NAME,
        seed=SEED,
        target=Quantity(name=TARGET, description="Species of the penguin"),
        features=features(train_rows, held_out_rows),
    )
    return build_bundle(estimator(), train_rows, held_out_rows, recipe, output)
