"""Install a library that an estimator needs, where there is a lock of it."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bundle.libraries import remedy
from tools.environment import LIBRARIES, InstallError, install
from tools.model.errors import ModelError

# Modules that come with a library of another name.
_PART_OF = {"cloudpickle": "mlflow"}
# LightGBM's wheel has no OpenMP of its own.
OPENMP = "libgomp.so.1"

T = TypeVar("T")


def with_libraries(path: Path, load: Callable[[], T]) -> T:
    """Return what `load` returns, having installed the libraries that it misses.

    Raises ModelError for a module that has no lock or cannot be installed.
    """
    tried: set[str] = set()
    while True:
        try:
            return load()
        except ModuleNotFoundError as error:
            module = (error.name or "").partition(".")[0]
            library = _PART_OF.get(module, module)
            if library not in LIBRARIES or library in tried:
                raise ModelError(
                    f"{path} needs the module {error.name}, which is not installed:"
                    " install it into .venv, or add its directory to PYTHONPATH"
                ) from error
            tried.add(library)
            _install(path, library)
        except OSError as error:
            if OPENMP not in str(error):
                raise
            raise ModelError(
                f"{path} needs OpenMP ({OPENMP}): install the package libgomp1"
            ) from error


def _install(path: Path, library: str) -> None:
    try:
        install(LIBRARIES[library])
    except InstallError as error:
        raise ModelError(f"{path}: {remedy(library)} ({error})") from error
    importlib.invalidate_caches()
