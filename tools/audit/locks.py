"""The packages that a lock file names."""

import re
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools import ROOT

# `name==1.0 ; marker \`, and then its hashes.
_ENTRY = re.compile(r"^[A-Za-z0-9][^=\s]*==[^\\\n]+", re.MULTILINE)


def requirements(lock: str) -> Iterator[Requirement]:
    """Yield the requirements of a lock file."""
    for entry in _ENTRY.findall((ROOT / lock).read_text()):
        yield Requirement(entry.strip())


def here(lock: str) -> list[str]:
    """Return the names of the packages that this Python on this platform needs."""
    return [
        canonicalize_name(each.name)
        for each in requirements(lock)
        if each.marker is None or each.marker.evaluate()
    ]
