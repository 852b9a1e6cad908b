"""Estimators in skops' format, which holds no code: loading one makes the types that it names."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Types of the libraries that a bundle may name; scikit-learn's, NumPy's and SciPy's are skops' own.
_KNOWN = frozenset(
    {
        "catboost.core.CatBoostClassifier",
        "catboost.core.CatBoostRegressor",
        "collections.OrderedDict",
        "lightgbm.basic.Booster",
        "lightgbm.sklearn.LGBMClassifier",
        "lightgbm.sklearn.LGBMRegressor",
        "xgboost.core.Booster",
        "xgboost.sklearn.XGBClassifier",
        "xgboost.sklearn.XGBRFClassifier",
        "xgboost.sklearn.XGBRFRegressor",
        "xgboost.sklearn.XGBRegressor",
    }
)


class UntrustedTypesError(ValueError):
    """A skops file names types that nobody trusts."""

    def __init__(self, types: list[str]) -> None:
        super().__init__(f"it has types that are not trusted: {', '.join(types)}")
        self.types = types


@dataclass(frozen=True)
class Saved:
    """The content of a skops file, and the types in it that skops does not trust by itself."""

    content: bytes
    trusted: tuple[str, ...]


def read(path: Path, accepted: tuple[str, ...]) -> tuple[Any, Saved]:
    """Return the estimator in a file, and what makes it again.

    Trusts the known types of the libraries, and those accepted. Raises UntrustedTypesError.
    """
    from skops import io  # noqa: PLC0415 only where there is such a file

    found = io.get_untrusted_types(file=path)
    if unknown := sorted({*found} - _KNOWN - {*accepted}):
        raise UntrustedTypesError(unknown)
    trusted = tuple(sorted(found))
    return load(path, trusted), Saved(path.read_bytes(), trusted)


def load(path: Path, trusted: tuple[str, ...]) -> Any:  # noqa: ANN401
    """Return the estimator in a file whose types are skops' own or trusted."""
    from skops import io  # noqa: PLC0415 as above

    return io.load(path, trusted=[*trusted])
