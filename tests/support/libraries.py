"""Libraries that only some estimators need; a test that needs one says so."""

import importlib
import sys
from typing import Any

from tests.support.client_environment import library_environment
from tests.support.machine import report_missing


def library(name: str) -> Any:  # noqa: ANN401 a module
    """Import a library; one that is too large for the development lock is installed apart."""
    try:
        return importlib.import_module(name)
    except OSError as error:  # LightGBM needs libgomp, which is not in its wheel
        report_missing(f"{name} cannot be loaded: {error}")
    except ModuleNotFoundError:
        # Last, so that what is here already stays the one that is imported.
        packages = library_environment(name.partition(".")[0]) / "lib"
        sys.path += [str(path) for path in packages.glob("python*/site-packages")]
        importlib.invalidate_caches()
        return importlib.import_module(name)
