"""Features by whose values the error is broken down, and what is promised for each value."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.errors import UnmonitorableError
from bundle.manifest import (
    MAX_CATEGORY_BINS,
    MAX_SEGMENTS,
    Feature,
    Reference,
    Segment,
    SegmentBin,
    Task,
)

_TRUTH = ("false", "true")


def check_segments(features: Sequence[Feature]) -> None:
    """Raise UnmonitorableError if a feature cannot be a segment."""
    chosen = [feature for feature in features if feature.segment]
    if len(chosen) > MAX_SEGMENTS:
        raise UnmonitorableError(
            f"{len(chosen)} segments: at most {MAX_SEGMENTS} are possible; leave some out"
        )
    for feature in chosen:
        if not feature.monitored:
            raise UnmonitorableError(
                f"segment {feature.name}: the feature is not monitored, so it has no bins:"
                " remove `monitored: false`"
            )
        if feature.type == "datetime":
            raise UnmonitorableError(
                f"segment {feature.name}: later times are all in its last bin:"
                " choose another feature"
            )
        if len(feature.categories) > MAX_CATEGORY_BINS:
            raise UnmonitorableError(
                f"segment {feature.name}: it has {len(feature.categories)} categories, more than"
                f" {MAX_CATEGORY_BINS}: group the rare ones"
            )


def segment_bins(reference: Reference, codes: Floats) -> NDArray[np.intp]:
    """Return the index of the bin of each code (n,); that of missing ones is the last bin."""
    found: NDArray[np.intp] = np.searchsorted(reference.edges, codes, side="right")
    return found + np.isnan(codes)


def measure_segment(
    feature: Feature, reference: Reference, codes: Floats, errors: Floats, task: Task
) -> Segment:
    """Return the promise for each value, of codes (n,) and errors (n,) of the same rows.

    An error is |prediction − actual|; of a classification, 1 for a wrong answer and 0 for a right
    one.
    """
    index = segment_bins(reference, codes)
    values = _values(feature, reference)
    return Segment(
        feature=feature.name,
        bins=tuple(
            _measured(each.bin, value, errors[index == at], task)
            for at, (each, value) in enumerate(zip(reference.bins, values, strict=True))
        ),
    )


def _measured(bin_: str, value: str, errors: Floats, task: Task) -> SegmentBin:
    rows = len(errors)
    if not rows:
        return SegmentBin(bin=bin_, value=value, rows=0)
    deviation = float(errors.std())
    if task == "classification":
        # None wrong of a few does not promise that none ever is (Agresti and Coull, 1998).
        share = (float(errors.sum()) + 2) / (rows + 4)
        deviation = float(np.sqrt(share * (1 - share)))
    return SegmentBin(
        bin=bin_, value=value, rows=rows, error=float(errors.mean()), deviation=deviation
    )


def _values(feature: Feature, reference: Reference) -> Iterator[str]:
    for at, each in enumerate(reference.bins):
        is_truth = feature.type == "boolean" and at < len(_TRUTH)
        yield _TRUTH[at] if is_truth else each.range
