"""An MLflow model that only MLflow can load: its directory, and its `predict`."""

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Containers with a root that nobody can write to have this at least.
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108


class PyFunc:
    """Predicts with a model of MLflow's `python_function` flavor.

    It is pickled as the files of its directory, by their relative paths. MLflow reads them from a
    directory, which lives as long as this does.
    """

    libraries = ("mlflow",)

    def __init__(self, files: Mapping[str, bytes], names: Sequence[str]) -> None:
        self._files = dict(files)
        self.feature_names_in_ = list(names)
        self._load()

    def predict(self, given: Any) -> Any:  # noqa: ANN401
        """Return MLflow's prediction of a DataFrame."""
        return self._model.predict(given)

    def answer_classes(self, target: Any) -> None:  # noqa: ANN401 a Series
        """Take the values of the target as the classes that it answers."""
        self.classes_ = sorted(set(target.dropna()))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_model"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._load()

    def _load(self) -> None:
        from mlflow import pyfunc  # noqa: PLC0415 only these models need it

        directory = tempfile.mkdtemp(prefix="model-", dir=_place())
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        for name, content in self._files.items():
            path = Path(directory) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self._model = pyfunc.load_model(directory)


def _place() -> str | None:
    """Return where temporary files can be written; None for Python's own choice."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        return str(_SHARED_MEMORY) if os.access(_SHARED_MEMORY, os.W_OK) else None
