"""The vendored Palmer penguins (Gorman et al. 2014, CC0, see NOTICE) and their split."""

from pathlib import Path

import pandas as pd
from sklearn.model_selection import train_test_split

TARGET = "species"
HELD_OUT_SHARE = 0.2
SEED = 0


def rows() -> pd.DataFrame:
    """Return all penguins, without the year in which they were measured."""
    path = Path(__file__).parent / "data" / "penguins.csv"
    return pd.read_csv(path).drop(columns="year")


def split(penguins: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (training rows, held-out rows): a seeded fifth of each species is held out."""
    train, held_out = train_test_split(
        penguins, test_size=HELD_OUT_SHARE, stratify=penguins[TARGET], random_state=SEED
    )
    return train, held_out
