"""The directories of the spool's readers: links between them, and the rows of the training."""

import csv
import os
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path

from bundle.manifest import REFERENCE_FILE, Manifest
from serving.spool import MODE


def place_reference(
    directories: Sequence[Path], bundle: Path, manifest: Manifest, excluded: Collection[str] = ()
) -> None:
    """Copy the bundle's reference rows, if it has any, to the readers of the spool.

    Raises OSError.
    """
    if REFERENCE_FILE not in manifest.files:
        return
    for directory in directories:
        path = directory / f"reference-{manifest.version}.csv"
        unfinished = directory / f"{path.name}.{os.getpid()}"
        unfinished.touch(MODE)
        _copy_columns(bundle / REFERENCE_FILE, unfinished, excluded)
        unfinished.replace(path)


def check_links(directories: Sequence[Path]) -> None:
    """Raise OSError if the directories cannot share a segment."""
    if len(directories) < 2:  # noqa: PLR2004 nothing is shared
        return
    probe = directories[0] / f".{secrets.token_hex(4)}"
    probe.touch(MODE)
    try:
        for each in directories[1:]:
            link = each / probe.name
            os.link(probe, link)
            link.unlink()
    finally:
        probe.unlink()


def _copy_columns(source: Path, target: Path, excluded: Collection[str]) -> None:
    if not excluded:
        target.write_bytes(source.read_bytes())
        return
    with (
        source.open(encoding="utf-8", newline="") as read,
        target.open("w", encoding="utf-8", newline="") as written,
    ):
        rows = csv.DictReader(read)
        names = [each for each in rows.fieldnames or () if each not in excluded]
        copy = csv.DictWriter(written, names, extrasaction="ignore", lineterminator="\n")
        copy.writeheader()
        copy.writerows(rows)
