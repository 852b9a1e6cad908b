"""Models made up for tests: manifests of random numbers, and edits of bundles."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from bundle.arrays import Floats
from bundle.encode import Cell, Encoder
from bundle.manifest import (
    ESTIMATOR_FILE,
    MANIFEST_FILE,
    PREDICTION,
    SCORE,
    Calibration,
    Feature,
    Manifest,
    Quantity,
    Validation,
    Value,
)
from bundle.pairs import choose_pairs
from bundle.reference import describe, describe_codes
from bundle.segments import measure_segment
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

# Every type, with and without missing values; category and class names that are awkward in JSON.
TYPED_FEATURES = (
    Feature(name="size", description="a number", nullable=True, minimum=0),
    Feature(name="rooms", description="whole", type="integer", minimum=0, maximum=9),
    Feature(name="new", description="a truth value", type="boolean", nullable=True),
    Feature(
        name="color",
        description="text",
        type="category",
        categories=("green", 'sky "blue"', "πράσινο"),
        nullable=True,
    ),
    Feature(
        name="zone",
        description="a number that is a name",
        type="category",
        categories=(3, 1, 7),
        unseen="reject",
    ),
    Feature(name="built", description="a time", type="datetime", minimum=0, nullable=True),
    Feature(name="note", description="not monitored", monitored=False),
)
CLASSES = ("ham", "spam", 'so-called "eggs"')


def make_rows(rows: int, features: Sequence[Feature] = TYPED_FEATURES) -> list[tuple[Cell, ...]]:
    """Return random rows of known values, a tenth of the nullable ones missing."""
    random = np.random.default_rng(3)

    def cell(feature: Feature) -> Cell:
        if feature.nullable and random.random() < 0.1:
            return None if feature.type == "category" else float("nan")
        match feature.type:
            case "category":
                return feature.categories[random.integers(len(feature.categories))]
            case "boolean":
                return bool(random.random() < 0.5)
            case "integer":
                return float(random.integers(0, 10))
        return float(random.gamma(2, 1e6 if feature.type == "datetime" else 2))

    return [tuple(map(cell, features)) for _ in range(rows)]


def make_classification(
    classes: Sequence[Value] = CLASSES,
    features: Sequence[Feature] = TYPED_FEATURES,
    *,
    probabilities: bool = True,
) -> Manifest:
    """Return the manifest of a classification of random rows, at random."""
    random = np.random.default_rng(4)
    codes = Encoder(features).codes(make_rows(1000, features))
    outputs = random.dirichlet(np.ones(len(classes)), 1000)
    predicted = outputs.argmax(axis=1)
    scores = outputs[:, 1] if len(classes) == 2 else outputs.max(axis=1)
    references = [
        describe_codes(each.name, column, each.categories, is_feature=True, nullable=each.nullable)
        if each.categories
        else describe(each.name, column, nullable=each.nullable)
        for each, column in zip(features, codes.T, strict=True)
        if each.monitored
    ]
    references.append(
        describe_codes(PREDICTION, predicted.astype(float), classes, is_feature=False)
    )
    points = ((0.0, 0.1), (0.5, 0.4), (1.0, 0.9))
    return Manifest(
        format=2,
        name="made-up",
        version="0123456789ab",
        task="classification",
        algorithm="None",
        target=Quantity(name="kind", description="what it is"),
        classes=tuple(classes),
        probabilities=probabilities,
        headline="accuracy",
        features=tuple(features),
        rows=1000,
        reference=(*references, *([describe(SCORE, scores)] if probabilities else [])),
        validation=Validation(rows=100, cv_folds=5, accuracy=0.9, cv_accuracy=0.8),
        calibration=Calibration(method="isotonic", points=points, rows=1000)
        if probabilities
        else None,
        libraries={},
        files={ESTIMATOR_FILE: "0" * 64},
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
        format=2,
        name="made-up",
        version="0123456789ab",
        task="regression",
        algorithm="None",
        target=target or Quantity(name="target", description="what is predicted"),
        features=tuple(features),
        rows=len(values),
        reference=(*references, describe(PREDICTION, predictions)),
        pairs=choose_pairs(references, values),
        validation=Validation(mae=1, rmse=2, rows=10, cv_mae=3, cv_rmse=4, cv_folds=5),
        libraries={},
        files={ESTIMATOR_FILE: "0" * 64},
    )


def with_segment(manifest: Manifest, name: str) -> Manifest:
    """Return a manifest with a feature as a segment, and a promise for each of its values."""
    feature = next(each for each in manifest.features if each.name == name)
    reference = next(each for each in manifest.reference if each.name == name)
    codes = np.arange(100.0) % 2
    segment = measure_segment(feature, reference, codes, codes, manifest.task)
    return manifest.model_copy(update={"segments": (segment,)})


def read_metrics(directory: Path) -> Samples:
    """Return what prometheus_client reads from a directory of multiprocess files."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return parse(generate_latest(registry).decode())


def edit_manifest(bundle: Path, **changes: Any) -> None:  # noqa: ANN401 any JSON
    """Replace top-level values of a bundle's `bundle.json`."""
    path = bundle / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
