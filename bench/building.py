"""Build a bundle of many rows in a process of its own, and print what it took as JSON."""

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder
from threadpoolctl import threadpool_limits

from bundle.build import bundle_fitted
from bundle.checks import Recipe
from bundle.infer import Column, infer
from bundle.manifest import Quantity

TARGET = "label"


def table(rows: int, numbers: int, categories: int, missing: float = 0.0) -> pd.DataFrame:
    """Return rows of numbers, of categories as text, and of a label that depends on two of them."""
    random = np.random.default_rng(0)
    columns: dict[str, object] = {
        f"number_{place:03d}": random.normal(5, 2, rows) for place in range(numbers)
    }
    for place in range(categories):
        values = [f"value {value}" for value in range(3 + place % 10)]
        columns[f"category_{place:03d}"] = random.choice(values, rows)
    frame = pd.DataFrame(columns)
    latent = frame["number_000"] - frame["number_001"] + 2 * (frame.iloc[:, -1] == "value 1")
    label = (latent + random.normal(0, 0.5, rows) > 0).astype(int)
    if missing:
        frame = frame.mask(random.random(frame.shape) < missing)
    return frame.assign(**{TARGET: label})


def recipe(frame: pd.DataFrame, name: str) -> Recipe:
    """Return the recipe of a table."""
    features = [infer(Column(str(column)), frame) for column in frame.columns.drop(TARGET)]
    return Recipe(name, Quantity(name=TARGET, description="A class"), features)


def classifier() -> Pipeline:
    """Return a pipeline of one-hot encoded categories, numbers, and boosted trees."""
    columns = make_column_transformer(
        (
            OneHotEncoder(handle_unknown="ignore", sparse_output=False),
            make_column_selector(dtype_exclude="number"),
        ),
        remainder="passthrough",
    )
    return make_pipeline(columns, HistGradientBoostingClassifier(max_iter=50, random_state=0))


def main(rows: int, numbers: int, categories: int) -> None:
    """Build, and print the seconds, and the bytes of the frame and of the memory beside it."""
    frame = table(rows, numbers, categories)
    held_out = frame.tail(rows // 10)
    with threadpool_limits(1):
        fitted = classifier().fit(frame.drop(columns=TARGET), frame[TARGET])
    chosen = recipe(frame, "large")
    # Let the peak begin here.
    Path("/proc/self/clear_refs").write_text("5")
    before = _bytes("VmRSS")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        bundle_fitted(fitted, frame, held_out, chosen, Path(directory) / "large")
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - start,
                "memory": _bytes("VmHWM") - before,
                "frame": int(frame.memory_usage(deep=True).sum()),
            }
        )
    )


def _bytes(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
