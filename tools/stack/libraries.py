"""What the bundle's estimator needs besides the model's own packages."""

import json
from pathlib import Path

from tools.environment import LIBRARIES


def needed(bundle: Path) -> list[str]:
    """Return the optional libraries that a bundle names; none if it cannot be read.

    Whoever serves the bundle says what is wrong with it.
    """
    try:
        named = json.loads((bundle / "bundle.json").read_text("utf-8"))["libraries"]
        return [name for name in LIBRARIES if name in named]
    except (OSError, ValueError, LookupError, TypeError):
        return []
