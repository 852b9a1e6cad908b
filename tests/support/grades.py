"""A classification of three integers by a pipeline on a data frame, with gaps in its columns."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from bundle.build import build_bundle
from bundle.checks import Recipe
from bundle.manifest import Feature, Quantity

TRAIN, HELD_OUT = 700, 200
GRADES = Recipe(
    name="grades",
    target=Quantity(name="grade", description="a grade"),
    features=[
        Feature(name="amount", description="a sum", nullable=True, minimum=0),
        Feature(
            name="purpose",
            description="what for",
            type="category",
            categories=("car", "home", "trip"),
            nullable=True,
        ),
        Feature(
            name="rating",
            description="a rank",
            type="category",
            categories=(1, 2, 3),
            unseen="reject",
        ),
        Feature(name="member", description="a truth value", type="boolean"),
    ],
)


def build_grades(output: Path, recipe: Recipe = GRADES) -> pd.DataFrame:
    """Write the bundle and return its held-out rows."""
    frame = _frame(TRAIN + HELD_OUT)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer(
        (encoder, ["purpose", "rating"]), remainder="passthrough", verbose_feature_names_out=False
    )
    estimator = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=10, random_state=0))
    build_bundle(estimator, frame[:TRAIN], frame[TRAIN:], recipe, output)
    return frame[TRAIN:]


def _frame(rows: int) -> pd.DataFrame:
    random = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "amount": random.gamma(2, 100, rows),
            "purpose": random.choice(["car", "home", "trip"], rows, p=[0.5, 0.3, 0.2]),
            "rating": random.choice([1, 2, 3], rows),
            "member": random.random(rows) < 0.4,
        }
    )
    odds = frame["amount"] / 200 + (frame["purpose"] == "trip") * 2 - frame["rating"]
    noisy = odds + random.logistic(0, 0.5, rows)
    frame["grade"] = np.select([noisy < -1, noisy < 0.5], [1, 2], 3)
    frame.loc[random.random(rows) < 0.1, "amount"] = np.nan
    frame.loc[random.random(rows) < 0.1, "purpose"] = None
    return frame
