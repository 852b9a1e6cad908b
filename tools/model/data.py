"""Read the rows: CSV, or Parquet."""

import csv
from difflib import get_close_matches
from pathlib import Path

import numpy as np
import pandas as pd

from tools.model.errors import ModelError, first_line

_PARQUET = (".parquet", ".pq")


def read_rows(path: Path) -> pd.DataFrame:
    """Return the table in a file, with unique names of columns. Raises ModelError."""
    if not path.is_file():
        raise ModelError(f"{path}: there is no such file")
    frame = _read_parquet(path) if path.suffix in _PARQUET else _read_csv(path)
    if frame.empty:
        raise ModelError(f"{path}: there are no rows")
    frame.columns = frame.columns.map(str)
    if twice := frame.columns[frame.columns.duplicated()].tolist():
        raise ModelError(f"{path}: two columns are called {twice[0]}: rename one")
    return frame


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            names = next(csv.reader(file), [])
        # pandas would call a second `a` by the name of `a.1`.
        for name in names:
            if name and names.count(name) > 1:
                raise ModelError(f"{path}: two columns are called {name}: rename one")
        return _without_index(pd.read_csv(path, encoding="utf-8-sig", low_memory=False), names)
    except (ValueError, csv.Error) as error:
        raise ModelError(
            f"{path} is not a CSV file in UTF-8 with a header: {first_line(error)}"
        ) from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from error


def _without_index(frame: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Leave out a first column without a name that counts the rows, as pandas writes an index."""
    if not names or names[0]:
        return frame
    first = frame.iloc[:, 0]
    is_count = pd.api.types.is_integer_dtype(first) and first.is_unique
    return frame.iloc[:, 1:] if is_count else frame


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError:
        raise ModelError(
            f"{path}: reading Parquet needs pyarrow: run ./task deps:parquet, or give CSV files"
        ) from None
    except (ValueError, OSError) as error:
        raise ModelError(f"{path} is not a Parquet file: {first_line(error)}") from error


def require(path: Path, frame: pd.DataFrame, name: str, what: str) -> None:
    """Raise ModelError if a table lacks a column, and name those that are spelled alike."""
    if name in frame:
        return
    alike = get_close_matches(name, frame.columns, n=3) or [*frame.columns[:10]]
    raise ModelError(f"{path}: {what} {name} is no column; there are {', '.join(alike)}")


def check_not_a_count(path: Path, name: str, values: "pd.Series[int]") -> None:
    """Raise ModelError for whole numbers that count the rows: every later one drifts."""
    if not pd.api.types.is_integer_dtype(values) or values.isna().any():
        return
    steps = np.diff(np.sort(values.to_numpy()))
    if len(steps) and (steps == 1).all():
        raise ModelError(
            f"{path}: column {name} counts the rows, like an identifier:"
            f" leave it out with `ignore: [{name}]`"
        )
