"""Tables of random rows with numbers, categories, truth values and gaps, and their features."""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bundle.checks import Recipe
from bundle.infer import Column, infer
from bundle.manifest import Feature, Quantity

TARGET = "label"


def mixed(  # noqa: PLR0913
    rows: int = 600,
    *,
    numbers: int = 3,
    categories: int = 2,
    missing: float = 0.2,
    classes: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Return rows whose label depends on number 0 and category 0, with a share of gaps."""
    random = np.random.default_rng(seed)
    columns: dict[str, object] = {f"n{i}": random.normal(size=rows) for i in range(numbers)}
    for i in range(categories):
        columns[f"c{i}"] = random.choice([f"v{j}" for j in range(3 + 2 * i)], rows)
    frame = pd.DataFrame(columns)
    latent = frame["n0"] + 2 * (frame["c0"] == "v1") + random.normal(0, 0.5, rows)
    frame = frame.mask(random.random(frame.shape) < missing)
    frame["flag"] = random.random(rows) < 0.3
    frame["latent"] = latent
    borders = [0.5, 1.5, 2.5][: classes - 1]
    frame[TARGET] = np.array(["no", "some", "much", "all"])[np.digitize(latent, borders)]
    return frame.drop(columns="latent")


def regression(rows: int = 600, **options: float) -> pd.DataFrame:
    """Return such rows with a number as the label."""
    frame = mixed(rows, missing=options.get("missing", 0.2), seed=int(options.get("seed", 0)))
    noise = np.random.default_rng(1).normal(size=rows)
    return frame.assign(**{TARGET: frame["n0"].fillna(0) * 2 + noise})


def features(frame: pd.DataFrame) -> list[Feature]:
    """Return the features that the columns are."""
    return [infer(Column(name), frame) for name in frame.columns if name != TARGET]


def recipe(frame: pd.DataFrame) -> Recipe:
    """Return a recipe of the table."""
    return Recipe(
        name="made-up", target=Quantity(name=TARGET, description=""), features=features(frame)
    )


def pipeline(model: object, *, impute: bool = True) -> Pipeline:
    """Return a model behind the usual transformers of a table's columns."""
    steps = [SimpleImputer(strategy="median"), StandardScaler()]
    columns = make_column_transformer(
        (make_pipeline(*steps[not impute :]), make_column_selector(dtype_include="number")),
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_include=["str", "object"]),
        ),
        remainder="passthrough",
    )
    return make_pipeline(columns, model)


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Write a table as CSV."""
    frame.to_csv(path, index=False)
    return path
