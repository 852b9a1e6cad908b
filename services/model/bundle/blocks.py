"""Predict many rows in blocks: an encoder makes a row many times as wide."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from bundle.arrays import Floats

BLOCK_ROWS = 8_192


def in_blocks(predict: Callable[[Any], Floats], given: Any) -> Floats:  # noqa: ANN401
    """Return the outputs (n, …) of n rows in a matrix or a DataFrame."""
    if len(given) <= BLOCK_ROWS:
        return predict(given)
    rows = given.iloc if isinstance(given, pd.DataFrame) else given
    starts = range(0, len(given), BLOCK_ROWS)
    return np.concatenate([predict(rows[start : start + BLOCK_ROWS]) for start in starts])
