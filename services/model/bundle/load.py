"""Load a bundle. Every file's hash is checked before anything is unpickled."""

import hashlib
import json
import logging
import warnings
from collections.abc import Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bundle import skops
from bundle.estimator import CodesModel, Model, with_one_thread, wrap
from bundle.libraries import OPTIONAL, installed, remedy
from bundle.manifest import (
    ESTIMATOR_FILE,
    FORMATS,
    MANIFEST_FILE,
    PROGRAM_FILE,
    SKOPS_FILE,
    TRAINED_AT_FILE,
    TREES_FILE,
    Manifest,
)
from bundle.program import Program
from bundle.trees import TreeTables

_COMPILED: dict[str, type[TreeTables] | type[Program]] = {
    TREES_FILE: TreeTables,
    PROGRAM_FILE: Program,
}

_ESTIMATORS = (ESTIMATOR_FILE, SKOPS_FILE)
_BY_PREFERENCE = (*_COMPILED, *_ESTIMATORS)

log = logging.getLogger(__name__)


class BundleError(Exception):
    """The bundle cannot be used; the message is one line that names the file and the reason."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    manifest: Manifest
    model: Model


def load_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory` after checking its hashes. Raises BundleError.

    Only the compiled form is loaded if there is one; such a worker does not import scikit-learn.
    """
    manifest = load_manifest(directory)
    name = next(each for each in _BY_PREFERENCE if each in manifest.files)
    path = directory / name
    try:
        if name in _ESTIMATORS:
            model: Model = _load_estimator(path, manifest)
        else:
            _warn(manifest, OPTIONAL)
            model = CodesModel(_COMPILED[name].load(path).predict)
    except Exception as error:
        raise BundleError(f"{path} does not load: {_reason(error, manifest)}") from error
    return Bundle(manifest, model)


def load_manifest(directory: Path) -> Manifest:
    """Return the content of `bundle.json` after checking every file's hash.

    Raises BundleError.
    """
    manifest = _read_manifest(directory / MANIFEST_FILE)
    if not {*_ESTIMATORS} & manifest.files.keys():
        raise BundleError(f"{directory / MANIFEST_FILE} has no hash of {ESTIMATOR_FILE}")
    for name, expected in manifest.files.items():
        _check_hash(directory / name, expected)
    return manifest


def trained_at(directory: Path) -> str:
    """Return the time at which the bundle was built (UTC, ISO 8601), or `unknown`."""
    try:
        return (directory / TRAINED_AT_FILE).read_text().strip()
    except OSError:
        return "unknown"


def _load_estimator(path: Path, manifest: Manifest) -> Model:
    _warn(manifest, manifest.libraries)
    with warnings.catch_warnings():
        # scikit-learn's own warning says the same, once for each part of the estimator.
        warnings.simplefilter("ignore")
        estimator = (
            skops.load(path, manifest.trusted) if path.name == SKOPS_FILE else _unpickle(path)
        )
    return wrap(with_one_thread(estimator), manifest)


def _unpickle(path: Path) -> Any:  # noqa: ANN401
    import joblib  # noqa: PLC0415 takes 0.1 s, and the compiled form does not need it

    return joblib.load(path)


def _reason(error: Exception, manifest: Manifest) -> str:
    """Return one line: the error, and the other library versions, which are the likely cause."""
    module = (getattr(error, "name", None) or "").partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and module in OPTIONAL:
        return remedy(module)
    reason = [*f"{type(error).__name__}: {error}".splitlines(), ""][0]
    return "; ".join([reason, *_other_versions(manifest, manifest.libraries)])


def _warn(manifest: Manifest, libraries: Container[str]) -> None:
    """Log each of these libraries that has another version than where the bundle was built."""
    for difference in _other_versions(manifest, libraries):
        log.warning("%s", difference)


def _other_versions(manifest: Manifest, libraries: Container[str]) -> Iterator[str]:
    for library in manifest.libraries:
        if library not in libraries:
            continue
        built, found = manifest.libraries[library], installed(library)
        if found != built and not (library == "python" and _minor(found) == _minor(built)):
            yield f"the bundle was built with {library} {built}, and {found or 'none'} is installed"


def _minor(python: str | None) -> str:
    return ".".join((python or "").split(".")[:2])


def _read_manifest(path: Path) -> Manifest:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text).get("format")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise BundleError(f"no bundle at {path.parent}: {path.name}: {reason}") from error
    if found not in FORMATS:
        raise BundleError(f"{path} has format {found}; this service reads formats 1 and 2")
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BundleError(f"{path}: {where}: {first['msg']}") from error


def _check_hash(path: Path, expected: str) -> None:
    try:
        actual = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BundleError(f"{path}: {error.strerror}") from error
    if actual != expected:
        raise BundleError(f"{path} is corrupt: its SHA-256 is {actual[:12]}…, not {expected[:12]}…")
