"""The licences of the packages in our images, as their metadata states them."""

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution

# What a company may not be able to ship beside code of its own. The lesser GPL is not among them.
_COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public License|Affero", re.IGNORECASE)
_CLASSIFIER = "License :: OSI Approved :: "
UNKNOWN = "not stated"


def licence_of(package: Distribution) -> str:
    """Return a package's licence: its SPDX expression, its classifiers, or its licence field."""
    metadata = package.metadata
    expressions = metadata.get_all("License-Expression")
    if expressions:
        return str(expressions[0])
    classifiers = [
        each.removeprefix(_CLASSIFIER)
        for each in metadata.get_all("Classifier") or ()
        if each.startswith(_CLASSIFIER)
    ]
    words = "\n".join(metadata.get_all("License") or ()).strip().splitlines()
    return " AND ".join(classifiers) or (words[0] if words else UNKNOWN)


def licences(names: Iterable[str]) -> dict[str, str]:
    """Return the licence of each package by its name; of one that is not installed, none."""
    found = {}
    for name in names:
        try:
            found[name] = licence_of(distribution(name))
        except PackageNotFoundError:
            continue
    return found


def objectionable(found: Mapping[str, str]) -> dict[str, str]:
    """Return the packages whose licence is copyleft or not stated; a choice of licences is not."""
    return {
        name: licence
        for name, licence in found.items()
        if licence == UNKNOWN or all(map(_COPYLEFT.search, re.split(r"(?i) or ", licence)))
    }
