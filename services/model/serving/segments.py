"""Which values of the segments a row has: what its id carries, so that its label counts there.

A mark is a fingerprint of the segments and their bins (2 bytes), then the index of a bin for each
segment (1 byte each). A bundle may name other segments for the same estimator, hence the same
version: labels of predictions with another fingerprint are not broken down.
"""

from bisect import bisect_right
from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from bundle.arrays import Floats
from bundle.manifest import Manifest

_FINGERPRINT_BYTES = 2


def create_segments(manifest: Manifest) -> "Segments | None":
    """Return the segments of a model, None if its bundle names none."""
    return Segments(manifest) if manifest.segments else None


def mark_bytes(manifest: Manifest) -> int:
    """Return the size of the marks in a model's ids, 0 without segments."""
    segments = create_segments(manifest)
    return segments.mark_bytes if segments else 0


class Segments:
    """The segments of a model, in the bundle's order."""

    def __init__(self, manifest: Manifest) -> None:
        references = {each.name: each for each in manifest.reference}
        places = {each.name: place for place, each in enumerate(manifest.features)}
        self._places = [places[each.feature] for each in manifest.segments]
        self._edges = [references[each.feature].edges for each in manifest.segments]
        self._sizes = [len(each.bins) for each in manifest.segments]
        names = [each.feature for each in manifest.segments]
        content = msgspec.json.encode([names, self._edges])
        self._fingerprint = blake2b(content, digest_size=_FINGERPRINT_BYTES).digest()

    @property
    def mark_bytes(self) -> int:
        """Return the size of a mark."""
        return _FINGERPRINT_BYTES + len(self._places)

    def marks(self, codes: Floats) -> list[bytes]:
        """Return the mark of each of n rows, given as codes (n, features).

        The bins are those of bundle.segments.segment_bins. NumPy's search takes 9 µs for one row.
        """
        return [
            self._fingerprint
            + bytes(
                # Of a missing value, which is not equal to itself, all edges are to the left.
                bisect_right(edges, code) + (code != code)  # noqa: PLR0124
                for edges, code in zip(self._edges, row, strict=True)
            )
            for row in codes[:, self._places].tolist()
        ]

    def bins(self, mark: bytes) -> Iterator[tuple[int, int]]:
        """Yield the index of each segment and of its bin, none of a mark of other segments."""
        if mark[:_FINGERPRINT_BYTES] != self._fingerprint or len(mark) != self.mark_bytes:
            return
        for segment, bin_ in enumerate(mark[_FINGERPRINT_BYTES:]):
            # Other segments may have the same fingerprint, once in 65,536 times.
            if bin_ < self._sizes[segment]:
                yield segment, bin_
