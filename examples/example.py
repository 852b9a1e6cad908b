"""Train an example: `python -m example --output DIR`. The variable EXAMPLE overrides the default.

Nothing outside this directory names an example.
"""

import argparse
import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bundle.manifest import Manifest

DEFAULT = "wine_quality"


def train(output: Path) -> "Manifest":
    """Build the example's bundle in the directory `output`."""
    name = os.environ.get("EXAMPLE") or DEFAULT
    manifest: Manifest = importlib.import_module(f"{name}.train").train(output)
    return manifest


def main() -> None:
    """Train, and print the validation error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, required=True, help="the bundle directory to write")
    manifest = train(parser.parse_args().output)
    errors = manifest.validation
    print(  # noqa: T201
        f"{manifest.name} {manifest.version}: {manifest.rows} rows;"
        f" {errors.cv_folds}-fold MAE {errors.cv_mae:.3f} RMSE {errors.cv_rmse:.3f};"
        f" held out ({errors.rows} rows) MAE {errors.mae:.3f} RMSE {errors.rmse:.3f}"
    )


if __name__ == "__main__":
    main()
