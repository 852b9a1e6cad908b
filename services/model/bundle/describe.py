"""What the bundle says of each feature: its reference, an example, and whether it is watched."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bundle.arrays import Floats
from bundle.manifest import MAX_MONITORED, Feature, Reference
from bundle.reference import describe, describe_codes


def most_important(features: Sequence[Feature], found: Sequence[float]) -> set[str]:
    """Return the names of those that are monitored: segments, and the most important of others.

    They are 200 at most.
    """
    wanted = [
        (not feature.segment, -importance, place, feature.name)
        for place, (feature, importance) in enumerate(zip(features, found, strict=True))
        if feature.monitored
    ]
    return {name for *_, name in sorted(wanted)[:MAX_MONITORED]}


def feature_references(features: Sequence[Feature], codes: Floats) -> Iterator[Reference]:
    """Yield the reference of each monitored feature from the training rows' codes."""
    for feature, values in zip(features, codes.T, strict=True):
        if not feature.monitored:
            continue
        if feature.type == "category":
            yield describe_codes(
                feature.name,
                values,
                feature.categories,
                is_feature=True,
                nullable=feature.nullable,
            )
        else:
            yield describe(feature.name, values, nullable=feature.nullable)


def with_example(feature: Feature, values: Floats) -> Feature:
    """Return the feature with an example: its most frequent value or the median, if it has none.

    An example that the API documentation made up might be rejected by the service.
    """
    if feature.example is not None:
        return feature
    return feature.model_copy(update={"example": _example(feature, values)})


def _example(feature: Feature, values: Floats) -> Any:  # noqa: ANN401
    if feature.type == "category":
        return feature.categories[0]
    median = float(np.nanquantile(values, 0.5, method="nearest"))
    if feature.type == "boolean":
        return bool(median)
    if feature.type == "datetime":
        return pd.Timestamp(median, unit="s", tz="UTC").isoformat()
    return median
