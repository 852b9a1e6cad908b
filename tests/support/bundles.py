"""Models made up for tests: manifests of random numbers, and edits of bundles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bundle.arrays import Floats
from bundle.manifest import (
    ESTIMATOR_FILE,
    MANIFEST_FILE,
    PREDICTION,
    Feature,
    Manifest,
    Quantity,
    Validation,
)
from bundle.reference import describe
from tests.support.model import Samples, parse

# Every kind of feature, and names that are no identifiers.
FEATURES = (
    Feature(name="plain", description="no bounds"),
    Feature(name="pH (value)", description="bounded", unit="pH", minimum=0, maximum=14, example=3),
    Feature(name="count", description="whole", type="integer", minimum=-5, maximum=10_000_000_000),
    Feature(name="maybe", description="may be missing", nullable=True, minimum=-1),
    Feature(name="few", description="whole, may be missing", type="integer", nullable=True),
    Feature(name="Säure σ", description="unicode", maximum=100),
)


def make_manifest(
    features: Sequence[Feature] = FEATURES,
    values: Floats | None = None,
    predictions: Floats | None = None,
    target: Quantity | None = None,
) -> Manifest:
    """Return a manifest whose references describe values (n, k) and predictions (n,)."""
    random = np.random.default_rng(0)
    if values is None:
        values = random.normal(5, 2, (1000, len(features)))
    if predictions is None:
        predictions = random.normal(5, 1, len(values))
    references = [
        describe(each.name, column, nullable=each.nullable)
        for each, column in zip(features, values.T, strict=True)
    ]
    return Manifest(
        format=1,
        name="made-up",
        version="0123456789ab",
        task="regression",
        algorithm="None",
        target=target or Quantity(name="target", description="what is predicted"),
        features=tuple(features),
        rows=len(values),
        reference=(*references, describe(PREDICTION, predictions)),
        validation=Validation(mae=1, rmse=2, rows=10, cv_mae=3, cv_rmse=4, cv_folds=5),
        libraries={},
        files={ESTIMATOR_FILE: "0" * 64},
    )


def read_metrics(directory: Path) -> Samples:
    """Return what prometheus_client reads from a directory of multiprocess files."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return parse(generate_latest(registry).decode())


def edit_manifest(bundle: Path, **changes: Any) -> None:  # noqa: ANN401 any JSON
    """Replace top-level values of a bundle's `bundle.json`."""
    path = bundle / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
