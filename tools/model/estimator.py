"""Load the estimator, and find out which columns it eats."""

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import pandas as pd
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from bundle import skops
from bundle.skops import Saved
from tools.model.data import require
from tools.model.errors import ModelError, first_line
from tools.model.libraries import OPENMP, with_libraries
from tools.model.mlflow import MLMODEL, Signature, load_directory


@dataclass(frozen=True)
class Loaded:
    """An estimator, the skops file that it comes from, and what MLflow knows about its columns."""

    estimator: Any
    saved: Saved | None = None
    signature: Signature = field(default_factory=Signature)


def load_estimator(path: Path, *, is_to_be_fitted: bool, trusted: tuple[str, ...] = ()) -> Loaded:
    """Return the estimator in a file or an MLflow directory. Raises ModelError.

    Unpickling runs what the file says; skops' format makes known and `trusted` types only.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        loaded = with_libraries(path, lambda: _load(path, trusted))
    for warning in caught:
        print(f"warning: {path}: {str(warning.message).splitlines()[0]}")
    if loaded.saved and is_to_be_fitted:
        raise ModelError(f"{path}: with --train, give the unfitted estimator as a pickle")
    _check(path, loaded.estimator, is_to_be_fitted=is_to_be_fitted)
    return loaded


def _load(path: Path, trusted: tuple[str, ...]) -> Loaded:
    found: list[Saved] = []

    def read(file: Path) -> Any:  # noqa: ANN401
        if file.suffix != ".skops":
            return joblib.load(file)
        estimator, saved = skops.read(file, trusted)
        found.append(saved)
        return estimator

    if path.is_dir() and not (path / MLMODEL).exists():
        raise ModelError(
            f"{path} is a directory without {MLMODEL}: give the file that joblib.dump wrote"
        )
    try:
        estimator, signature = (
            load_directory(path, read) if path.is_dir() else (read(path), Signature())
        )
    except (ModelError, ModuleNotFoundError):
        raise
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename or path}: there is no such file") from None
    except skops.UntrustedTypesError as error:
        options = " ".join(f"--trust {each}" for each in error.types)
        raise ModelError(f"{path}: {error}; if you trust them, add {options}") from error
    except Exception as error:
        if isinstance(error, OSError) and OPENMP in str(error):
            raise
        raise ModelError(
            f"{path} does not load: {first_line(error)}; was it written by joblib.dump, with the"
            " library versions that are installed here?"
        ) from error
    return Loaded(estimator, found[0] if found else None, signature)


def _check(path: Path, estimator: Any, *, is_to_be_fitted: bool) -> None:  # noqa: ANN401
    wanted = ("fit", "get_params", "predict") if is_to_be_fitted else ("predict",)
    for method in wanted:
        if not hasattr(estimator, method):
            raise ModelError(
                f"{path} holds a {type(estimator).__name__} without a method {method}:"
                " give a scikit-learn estimator"
            )
    if is_to_be_fitted:
        return
    try:
        check_is_fitted(estimator)
    except NotFittedError:
        raise ModelError(f"{path} is not fitted: fit it, or add --train") from None
    except TypeError:
        return  # not scikit-learn's: predicting will tell


def feature_names(  # noqa: PLR0913
    loaded: Loaded,
    path: Path,
    frame: pd.DataFrame,
    target: str,
    ignored: list[str],
    *,
    is_to_be_fitted: bool,
) -> list[str]:
    """Return the columns that the estimator eats, in its order. Raises ModelError."""
    rest = [name for name in frame.columns if name != target and name not in ignored]
    if is_to_be_fitted:
        return _some(rest, path)
    estimator = loaded.estimator
    named = getattr(estimator, "feature_names_in_", None)
    if named is None:
        named = [*loaded.signature.types] or None
    if named is not None:
        return _by_name([*map(str, named)], path, frame, target, ignored)
    count = getattr(estimator, "n_features_in_", len(rest))
    if count != len(rest):
        raise ModelError(
            f"{path} has {len(rest)} columns besides {target}, and the estimator takes {count}:"
            " leave out the others with `ignore: […]` in features.yaml"
        )
    return _some(rest, path)


def _by_name(
    names: list[str], path: Path, frame: pd.DataFrame, target: str, ignored: list[str]
) -> list[str]:
    for name in names:
        if name == target:
            raise ModelError(
                f"the estimator was fitted with the target {target} among its features:"
                " fit it without"
            )
        if name in ignored:
            raise ModelError(f"features.yaml: ignore: the estimator needs {name}")
        require(path, frame, name, "the estimator's feature")
    return names


def _some(names: list[str], path: Path) -> list[str]:
    if not names:
        raise ModelError(f"{path} has no column besides the target")
    return names
