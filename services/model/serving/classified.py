"""What the id of a classification's prediction carries: the class, and every class's probability.

Layout: code of the class (uint16), fingerprint of the list of classes (2 bytes), number of
probabilities K (uint16; 0: the model has none). Then, for two classes, the probability of the
second one (float64); for more, all of them in the most exact form that fits: as float64, so that
log loss and Brier score are exact; as float32, off by 6e-8 of a probability; or as -ln p in
1,818ths (uint16), which rounds log loss by at most 0.0003 and a probability by 0.03 %. Where K of
them do not fit either, the most likely classes follow as pairs (uint16 code, uint16 -ln p): all
others get an equal share of the rest. With a version of 12 characters, 5, 10 and 21 classes fit, or
the 10 most likely ones; with one of 40, 1, 3 and 7, or 3. Segments take some of the room.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from bundle.arrays import Floats
from bundle.manifest import Value

_HEAD = struct.Struct(">H2sH")
_PROBABILITY = struct.Struct(">d")
_BINARY = 2
_FLOATS = (np.dtype(">f8"), np.dtype(">f4"))
_UINT16 = np.dtype(">u2")
_PAIR_BYTES = 4
# scikit-learn clips probabilities here, so that a log loss is finite.
EPSILON = float(np.finfo(np.float64).eps)
# -ln EPSILON, 36.04, must fit.
_STEPS = 1818


class Classified(NamedTuple):
    """The content of an id: a class by its code, and the probabilities (K,), if there are any."""

    code: int
    fingerprint: bytes
    probabilities: Floats | None


def fingerprint(classes: Sequence[Value]) -> bytes:
    """Return two bytes that differ between most lists of classes."""
    return blake2b(msgspec.json.encode(classes), digest_size=2).digest()


class Packer:
    """Packs the predictions of one model version into contents of ids, within `room` bytes."""

    def __init__(self, classes: Sequence[Value], room: int) -> None:
        self._fingerprint = fingerprint(classes)
        self._classes = len(classes)
        self._room = room - _HEAD.size

    def pack(self, codes: NDArray[np.intp], probabilities: Floats | None) -> list[bytes]:
        """Return a content for each of n predictions; probabilities are (n, K)."""
        if probabilities is None:
            return [_HEAD.pack(code, self._fingerprint, 0) for code in codes.tolist()]
        return [
            _HEAD.pack(code, self._fingerprint, self._classes) + body
            for code, body in zip(codes.tolist(), self._bodies(probabilities), strict=True)
        ]

    def _bodies(self, probabilities: Floats) -> list[bytes]:
        if self._classes == _BINARY:
            return [_PROBABILITY.pack(each) for each in probabilities[:, 1].tolist()]
        for kind in _FLOATS:
            if self._classes * kind.itemsize <= self._room:
                return [row.tobytes() for row in probabilities.astype(kind)]
        steps = np.rint(-np.log(np.maximum(probabilities, EPSILON)) * _STEPS).astype(_UINT16)
        if self._classes * _UINT16.itemsize > self._room:
            steps = _most_likely(steps, self._room // _PAIR_BYTES)
        return [row.tobytes() for row in steps]


def unpack(content: bytes) -> Classified:
    """Return the prediction that was packed."""
    code, mark, classes = _HEAD.unpack_from(content)
    return Classified(code, mark, _probabilities(content[_HEAD.size :], classes))


def _most_likely(steps: NDArray[np.uint16], number: int) -> NDArray[np.uint16]:
    """Return (n, 2·number): code and steps of the most likely classes, in turn."""
    codes = np.argsort(steps, axis=1, kind="stable")[:, :number]
    pairs = np.stack([codes, np.take_along_axis(steps, codes, axis=1)], axis=2)
    return pairs.astype(_UINT16).reshape(len(steps), -1)


def _probabilities(body: bytes, classes: int) -> Floats | None:
    if classes == 0:
        return None
    if classes == _BINARY:
        (second,) = _PROBABILITY.unpack(body)
        return np.array([1 - second, second])
    for kind in _FLOATS:
        if len(body) == classes * kind.itemsize:
            return np.frombuffer(body, kind).astype(np.float64)
    steps = np.frombuffer(body, _UINT16)
    if len(steps) == classes:
        return _from_steps(steps)
    codes, known = steps[0::2].astype(np.intp), _from_steps(steps[1::2])
    rest = max(1 - known.sum(), 0.0) / (classes - len(codes))
    probabilities = np.full(classes, rest)
    probabilities[codes] = known
    return probabilities


def _from_steps(steps: NDArray[np.uint16]) -> Floats:
    return np.asarray(np.exp(steps / -_STEPS), dtype=np.float64)
