"""Where the prediction log is: --log, or PREDICTION_LOG in the environment or in .env."""

import os
from dataclasses import dataclass
from pathlib import Path

from pyarrow.fs import FileSystem

from publisher.layout import LayoutError, open_root
from tools import ROOT
from tools.log.errors import LogError
from tools.stack.settings import Settings, load_settings

# Credentials and endpoints of object stores, which their libraries read from the environment.
_STORES = ("AWS_", "GOOGLE_")


@dataclass(frozen=True)
class Location:
    """A log's root as a person writes it, and opened."""

    url: str
    filesystem: FileSystem
    path: str


def find_log(given: str | None) -> Location:
    """Return the log that is given, or the stack's. Raises LogError.

    A path that a person types is relative to where they are, one in .env to the checkout.
    """
    settings = use_settings()
    if given:
        url = _absolute(given, Path(os.environ.get("USER_WORKING_DIR") or "."))
    elif not (url := stack_log(settings)):
        raise LogError("PREDICTION_LOG is not set: set it in .env, or give --log with a directory")
    try:
        return Location(url, *open_root(url))
    except (LayoutError, OSError, ValueError) as error:
        raise LogError(str(error)) from error


def use_settings() -> Settings:
    """Return the stack's settings, and give this process the credentials that .env has."""
    settings = load_settings()
    for name, value in settings.environment.items():
        if name.startswith(_STORES):
            os.environ.setdefault(name, value)
    return settings


def stack_log(settings: Settings) -> str:
    """Return the stack's log as a URL or an absolute path, empty if there is none."""
    url = settings.environment.get("PREDICTION_LOG", "")
    return _absolute(url, ROOT) if url else ""


def _absolute(url: str, base: Path) -> str:
    return url if "://" in url else str(base / Path(url).expanduser())
