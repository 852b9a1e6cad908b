"""Load a bundle. Every file's hash is checked before anything is unpickled."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from bundle.arrays import Floats
from bundle.manifest import (
    ESTIMATOR_FILE,
    FORMAT,
    MANIFEST_FILE,
    TRAINED_AT_FILE,
    TREES_FILE,
    Manifest,
)
from bundle.trees import TreeTables


class BundleError(Exception):
    """The bundle cannot be used; the message is one line that names the file and the reason."""


class Estimator(Protocol):
    """The part of an estimator that the service uses: rows (n, features) to predictions (n,)."""

    def predict(self, X: Floats) -> Floats: ...  # noqa: D102, N803


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle."""

    manifest: Manifest
    estimator: Estimator


def load_bundle(directory: Path) -> Bundle:
    """Return the bundle in `directory` after checking its hashes. Raises BundleError.

    Only the compiled form is loaded if there is one; such a worker does not import scikit-learn.
    """
    manifest = load_manifest(directory)
    compiled = TREES_FILE in manifest.files
    path = directory / (TREES_FILE if compiled else ESTIMATOR_FILE)
    try:
        return Bundle(manifest, TreeTables.load(path) if compiled else _unpickle(path))
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise BundleError(f"{path} does not load: {reason}") from error


def load_manifest(directory: Path) -> Manifest:
    """Return the content of `bundle.json` after checking every file's hash.

    Raises BundleError.
    """
    manifest = _read_manifest(directory / MANIFEST_FILE)
    if ESTIMATOR_FILE not in manifest.files:
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


def _unpickle(path: Path) -> Estimator:
    import joblib  # noqa: PLC0415 takes 0.1 s, and the compiled form does not need it

    estimator: Estimator = joblib.load(path)
    return estimator


def _read_manifest(path: Path) -> Manifest:
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text).get("format")
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else f"not JSON: {error}"
        raise BundleError(f"no bundle at {path.parent}: {path.name}: {reason}") from error
    if found != FORMAT:
        raise BundleError(f"{path} has format {found}; this service reads format {FORMAT}")
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
