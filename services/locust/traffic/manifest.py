"""Reads the part of `bundle.json` that the traffic uses, with the standard library only.

The locust image has neither NumPy nor pydantic, which the reader of the service needs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traffic.errors import TrafficError

MANIFEST_FILE = "bundle.json"
FORMATS = (1, 2)


@dataclass(frozen=True)
class Feature:
    """One input: the values that the service accepts, and its standard deviation in training."""

    name: str
    type: str = "number"
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    sigma: float = 1.0
    categories: tuple[float | bool | str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """One bundle: its model's inputs in order, target and classes (none: a number), and files."""

    path: Path
    name: str
    target: str
    features: tuple[Feature, ...]
    files: frozenset[str]
    classes: tuple[float | bool | str, ...] = ()


def read_manifest(directory: Path) -> Manifest:
    """Return the manifest of the bundle in `directory`. Raises TrafficError."""
    path = directory / MANIFEST_FILE
    try:
        content = json.loads(path.read_text("utf-8"))
        return _manifest(path, content)
    except OSError as error:
        raise TrafficError(f"no bundle at {directory}: {path.name}: {error.strerror}") from error
    except KeyError as error:
        raise TrafficError(f"{path}: {error} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise TrafficError(f"{path} is not a valid manifest: {error}") from error


def _manifest(path: Path, content: dict[str, Any]) -> Manifest:
    if content["format"] not in FORMATS:
        raise TrafficError(f"{path} has format {content['format']}; this client reads 1 and 2")
    sigmas = {each["name"]: each.get("sigma", 1.0) for each in content["reference"]}
    return Manifest(
        path=path,
        name=content["name"],
        target=content["target"]["name"],
        features=tuple(
            _feature(each, sigmas.get(each["name"], 1.0)) for each in content["features"]
        ),
        files=frozenset(content["files"]),
        classes=tuple(content.get("classes", ())),
    )


def _feature(content: dict[str, Any], sigma: float) -> Feature:
    return Feature(
        name=content["name"],
        type=content["type"],
        nullable=content["nullable"],
        minimum=content.get("minimum"),
        maximum=content.get("maximum"),
        sigma=sigma,
        categories=tuple(content.get("categories", ())),
    )
