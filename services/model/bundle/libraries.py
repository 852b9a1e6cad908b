"""The libraries that a bundle depends on, and the name of its algorithm."""

import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bundle.manifest import Input
from bundle.skops import Saved

# Modules whose versions decide what a pickle holds, besides those of the estimator's own classes.
_ALWAYS = ("numpy", "scikit-learn")
# Libraries that the service has only where it is asked for them; each has a lock of its own,
# services/model/requirements-NAME.txt.
OPTIONAL = ("xgboost", "lightgbm", "catboost", "skops", "mlflow")
# The same library, for other processors or with less beside it.
_DISTRIBUTIONS = {"xgboost": ("xgboost", "xgboost-cpu"), "mlflow": ("mlflow", "mlflow-skinny")}


def algorithm(fitted: Any) -> str:  # noqa: ANN401
    """Return the class name of the estimator, or of the last step of a pipeline."""
    return type(last_step(fitted)).__name__


def last_step(fitted: Any) -> Any:  # noqa: ANN401
    """Return the estimator itself, or the last step of a pipeline."""
    return fitted.steps[-1][1] if hasattr(fitted, "steps") else fitted


def libraries(fitted: Any, given: Input, saved: Saved | None) -> dict[str, str]:  # noqa: ANN401
    """Return the versions of Python and of what the estimator is made of, by distribution."""
    found = [*_ALWAYS]
    if given.kind == "frame":
        found.append("pandas")
    modules = {type(part).__module__.partition(".")[0] for part in _parts(fitted)}
    modules |= {*getattr(fitted, "libraries", ())}
    modules |= {"skops"} if saved else set()
    found += [each for each in OPTIONAL if each in modules]
    return {"python": platform.python_version()} | {
        name: installed(name) or "unknown" for name in found
    }


def installed(library: str) -> str | None:
    """Return the version of a library that is installed, or of Python; None for none."""
    if library == "python":
        return platform.python_version()
    for name in _DISTRIBUTIONS.get(library, (library,)):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return None


def remedy(module: str) -> str:
    """Return how to install an optional library."""
    return (
        f"{module} is not installed: set MODEL_LIBRARIES={module} for the image,"
        f" or run ./task deps:model:{module}"
    )


def _parts(fitted: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield an estimator and what it is made of."""
    yield fitted
    if hasattr(fitted, "get_params") and not isinstance(fitted, type):
        yield from fitted.get_params(deep=True).values()
