"""Write a bundle's directory as a whole."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib

from bundle.errors import UnmonitorableError
from bundle.manifest import MANIFEST_FILE, TRAINED_AT_FILE, Manifest


def dump(fitted: Any) -> bytes:  # noqa: ANN401
    """Return an estimator as joblib pickles it."""
    buffer = BytesIO()
    joblib.dump(fitted, buffer)
    return buffer.getvalue()


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def check_output(output: Path) -> None:
    """Raise UnmonitorableError unless `output` can be created, or is a bundle to be replaced."""
    if not output.exists():
        return
    if not output.is_dir():
        raise UnmonitorableError(f"{output} is not a directory: choose another --output")
    if any(output.iterdir()) and not (output / MANIFEST_FILE).is_file():
        raise UnmonitorableError(
            f"{output} has other files than a bundle's: choose another --output"
        )


def write(output: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    """Write all files beside `output` and put them in its place, so that none is half-written.

    Raises UnmonitorableError.
    """
    check_output(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as place:
            new = Path(place) / "new"
            new.mkdir()
            _fill(new, manifest, files)
            _swap(new, output, Path(place) / "old")
    except OSError as error:
        raise UnmonitorableError(f"{error.filename or output}: {error.strerror}") from error


def _fill(directory: Path, manifest: Manifest, files: Mapping[str, bytes]) -> None:
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / TRAINED_AT_FILE).write_text(_now() + "\n")
    text = json.dumps(manifest.model_dump(exclude_none=True), indent=1, ensure_ascii=False)
    (directory / MANIFEST_FILE).write_text(text + "\n", encoding="utf-8")


def _swap(new: Path, output: Path, old: Path) -> None:
    """Put a directory in the place of another, which comes back if that fails."""
    if not output.exists():
        new.rename(output)
        return
    # A link is replaced, and the version that it stands for stays.
    output.rename(old)
    try:
        new.rename(output)
    except OSError:
        old.rename(output)
        raise


def _now() -> str:
    """Return the time, or SOURCE_DATE_EPOCH if it is set, for a reproducible build."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), UTC) if epoch else datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
