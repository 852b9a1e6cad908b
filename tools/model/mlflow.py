"""An MLflow model directory: the model of its flavor, and its signature.

The flavors sklearn, xgboost, lightgbm and catboost hold a scikit-learn class, which is loaded
without MLflow. Any other model is loaded by MLflow's `python_function`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from bundle.manifest import FeatureType
from bundle.pyfunc import PyFunc
from tools.model.errors import ModelError, first_line

MLMODEL = "MLmodel"

_TYPES: dict[str, FeatureType] = {
    **dict.fromkeys(("double", "float"), "number"),
    **dict.fromkeys(("long", "integer"), "integer"),
    "boolean": "boolean",
    "string": "category",
    "datetime": "datetime",
}
# Files of an estimator itself, by how they were written.
Read = Callable[[Path], Any]


@dataclass(frozen=True)
class Signature:
    """Names and types of the columns, and which may be missing; empty if nothing is known."""

    types: Mapping[str, FeatureType | None] = field(default_factory=dict)
    nullable: frozenset[str] = frozenset()
    answers_classes: bool = False


def load_directory(directory: Path, read: Read) -> tuple[Any, Signature]:
    """Return the estimator of a directory and its signature; `read` reads a pickle or skops file.

    Raises ModelError.
    """
    try:
        content = yaml.safe_load((directory / MLMODEL).read_text("utf-8"))
        flavors, signature = content["flavors"], _signature(content.get("signature"))
    except (OSError, yaml.YAMLError, LookupError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(
            f"{directory} is not a model that MLflow saved: {MLMODEL}: {first_line(error)}"
        ) from error
    for name, load in _FLAVORS.items():
        flavor = flavors.get(name)
        if flavor and not flavor.get("code") and _is_scikit_learns(flavor):
            return load(directory, flavor, read), signature
    return _python_function(directory, signature), signature


def _is_scikit_learns(flavor: Mapping[str, Any]) -> bool:
    """Return whether a flavor has a scikit-learn class, not a library's own booster."""
    return not str(flavor.get("model_class", "")).endswith("Booster")


def _sklearn(directory: Path, flavor: Mapping[str, Any], read: Read) -> Any:  # noqa: ANN401
    return read(_inside(directory, flavor["pickled_model"]))


def _xgboost(directory: Path, flavor: Mapping[str, Any], read: Read) -> Any:  # noqa: ANN401, ARG001
    name = str(flavor["model_class"]).rpartition(".")[2]
    estimator = getattr(import_module("xgboost"), name)()
    estimator.load_model(_inside(directory, flavor["data"]))
    return estimator


def _lightgbm(directory: Path, flavor: Mapping[str, Any], read: Read) -> Any:  # noqa: ANN401
    return read(_inside(directory, flavor["data"]))


def _catboost(directory: Path, flavor: Mapping[str, Any], read: Read) -> Any:  # noqa: ANN401, ARG001
    estimator = getattr(import_module("catboost"), str(flavor["model_type"]))()
    path = _inside(directory, flavor["data"])
    return estimator.load_model(str(path), format=flavor.get("save_format", "cbm"))


_FLAVORS: dict[str, Callable[[Path, Mapping[str, Any], Read], Any]] = {
    "sklearn": _sklearn,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "catboost": _catboost,
}


def _inside(directory: Path, name: str) -> Path:
    path = (directory / name).resolve()
    if not path.is_relative_to(directory.resolve()):
        raise ModelError(f"{directory}: {MLMODEL} names {name}, which is outside")
    return path


def _python_function(directory: Path, signature: Signature) -> PyFunc:
    if not signature.types:
        raise ModelError(
            f"{directory} has no signature with named columns: save it with infer_signature(…)"
        )
    paths = sorted(each for each in directory.rglob("*") if each.is_file())
    files = {str(each.relative_to(directory)): each.read_bytes() for each in paths}
    return PyFunc(files, [*signature.types])


def _signature(content: Any) -> Signature:  # noqa: ANN401 what YAML holds
    if not content:
        return Signature()
    columns = [each for each in json.loads(content["inputs"]) if "name" in each]
    outputs = json.loads(content.get("outputs") or "[]")
    return Signature(
        types={each["name"]: _TYPES.get(each["type"]) for each in columns},
        nullable=frozenset(each["name"] for each in columns if not each.get("required", True)),
        answers_classes=any(each.get("type") in ("string", "boolean") for each in outputs),
    )
