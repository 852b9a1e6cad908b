"""Files of this checkout that containers, which run as other users, cannot read."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from tools import ROOT

# What compose.yaml mounts, and what the images contain.
_DIRECTORIES = ("examples", "grafana", "prometheus", "services")


def advice(*bundles: Path) -> str | None:
    """Return what to do if a checkout was made with a strict umask; None if it was not."""
    directories = [*(ROOT / name for name in _DIRECTORIES), *bundles]
    first = next((path for each in directories for path in _unreadable(each)), None)
    if first is None:
        return None
    file, *names = (os.path.relpath(each, ROOT) for each in (first, *directories))
    return (
        f"containers run as other users, who cannot read all of this checkout, such as"
        f" {file}: chmod -R go+rX {' '.join(names)}"
    )


def _unreadable(directory: Path) -> Iterator[Path]:
    """Yield the files below a directory that others cannot read."""
    for path in sorted(directory.rglob("*")):
        is_file = path.is_file() and "__pycache__" not in path.parts
        if is_file and not path.stat().st_mode & stat.S_IROTH:
            yield path
