"""The example's rows, as its bundle carries them."""

import csv
from pathlib import Path

from bundle.manifest import Manifest


def read_rows(path: Path, manifest: Manifest) -> list[dict[str, float]]:
    """Return the rows of a bundle's CSV file, each with the features alone, in order."""
    names = [feature.name for feature in manifest.features]
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(row[name]) for name in names} for row in csv.DictReader(file)]
