"""Signed prediction ids, which contain everything that feedback needs instead of a database.

An id is base64url of, for a regression (format 1): format (1 byte), time (uint32, seconds since
1970), prediction (float64), nonce (8 random bytes), version (UTF-8), tag (16 bytes of BLAKE2b keyed
with a secret). For a classification (format 2): format, time, nonce, length of the version (uint8),
version, content (see classified.py), tag. With segments (formats 3 and 4), the length of a mark
(uint8) and the mark (see segments.py) precede the version or the content. An id has at most 120
characters, and reveals only what its owner knows: prediction, version, time, and the bins of some
features that it sent.
"""

import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

from serving.classified import Classified, unpack

_HEAD = struct.Struct(">BId8s")
_FORMAT = 1
_CLASS_HEAD = struct.Struct(">BI8sB")
_CLASS_FORMAT = 2
_MARKED_FORMAT = 3
_MARKED_CLASS_FORMAT = 4
_TAG_BYTES = 16
# Of which base64 makes 120 characters.
_MAX_BYTES = 90
_NONCE_BYTES = 8
# Nonces are read in bulk: a call of urandom for each takes longer than the rest of an id.
_POOL_BYTES = 512 * _NONCE_BYTES


class InvalidIdError(Exception):
    """The id was not signed with any of our keys."""


class PredictionId(NamedTuple):
    """The content of an id; `time` is in seconds since 1970, `mark` is empty without segments."""

    version: str
    prediction: float | Classified
    time: int
    nonce: bytes
    mark: bytes = b""


class Signer:
    """Signs with the first key and accepts ids of all keys, so that keys can be rotated."""

    def __init__(
        self, keys: Sequence[bytes], model: str, version: str, mark_bytes: int = 0
    ) -> None:
        self._keyed = [blake2b(key=_key(key, model), digest_size=_TAG_BYTES) for key in keys]
        self._version = version.encode()
        self._mark_bytes = mark_bytes
        self._pool = b""
        self._next = 0

    def sign(self, prediction: float, now: float, mark: bytes = b"") -> str:
        """Return the id of a prediction made at `now` (seconds since 1970)."""
        if mark:
            head = _HEAD.pack(_MARKED_FORMAT, int(now), prediction, self._nonce())
            payload = head + _with_length(mark) + self._version
        else:
            payload = _HEAD.pack(_FORMAT, int(now), prediction, self._nonce()) + self._version
        return urlsafe_b64encode(payload + _tag(self._keyed[0], payload)).rstrip(b"=").decode()

    def sign_class(self, content: bytes, now: float, mark: bytes = b"") -> str:
        """Return the id of a classification's prediction made at `now`."""
        kind = _MARKED_CLASS_FORMAT if mark else _CLASS_FORMAT
        head = _CLASS_HEAD.pack(kind, int(now), self._nonce(), len(self._version))
        payload = head + self._version + (_with_length(mark) if mark else b"") + content
        return urlsafe_b64encode(payload + _tag(self._keyed[0], payload)).rstrip(b"=").decode()

    @property
    def room(self) -> int:
        """Return how many bytes of content fit into an id."""
        mark = 1 + self._mark_bytes if self._mark_bytes else 0
        return _MAX_BYTES - _CLASS_HEAD.size - len(self._version) - mark - _TAG_BYTES

    def read(self, text: str) -> PredictionId:
        """Return the content of an id. Raises InvalidIdError if it was not signed with our keys."""
        signed = _decode(text)
        payload, tag = signed[:-_TAG_BYTES], signed[-_TAG_BYTES:]
        # Every key is compared, so that the duration is independent of the key.
        matches = [compare_digest(_tag(keyed, payload), tag) for keyed in self._keyed]
        if not any(matches) or payload[0] not in _READERS:
            raise InvalidIdError("not signed by this service")
        return _READERS[payload[0]](payload)

    def _nonce(self) -> bytes:
        if self._next == len(self._pool):
            self._pool, self._next = os.urandom(_POOL_BYTES), 0
        self._next += _NONCE_BYTES
        return self._pool[self._next - _NONCE_BYTES : self._next]


def _read_regression(payload: bytes) -> PredictionId:
    _, time, prediction, nonce = _HEAD.unpack_from(payload)
    return PredictionId(payload[_HEAD.size :].decode(), prediction, time, nonce)


def _read_marked_regression(payload: bytes) -> PredictionId:
    _, time, prediction, nonce = _HEAD.unpack_from(payload)
    mark, version = _split_mark(payload[_HEAD.size :])
    return PredictionId(version.decode(), prediction, time, nonce, mark)


def _read_class(payload: bytes) -> PredictionId:
    kind, time, nonce, length = _CLASS_HEAD.unpack_from(payload)
    end = _CLASS_HEAD.size + length
    version, rest = payload[_CLASS_HEAD.size : end].decode(), payload[end:]
    mark, content = _split_mark(rest) if kind == _MARKED_CLASS_FORMAT else (b"", rest)
    return PredictionId(version, unpack(content), time, nonce, mark)


_READERS = {
    _FORMAT: _read_regression,
    _CLASS_FORMAT: _read_class,
    _MARKED_FORMAT: _read_marked_regression,
    _MARKED_CLASS_FORMAT: _read_class,
}


def _with_length(mark: bytes) -> bytes:
    return bytes((len(mark),)) + mark


def _split_mark(payload: bytes) -> tuple[bytes, bytes]:
    """Return the mark at the beginning of a payload, and what follows."""
    end = 1 + payload[0]
    return payload[1:end], payload[end:]


def _key(secret: bytes, model: str) -> bytes:
    """Return a key of BLAKE2b's size, which differs between models that share the secret."""
    return blake2b(model.encode(), key=blake2b(secret).digest(), digest_size=32).digest()


def _tag(keyed: "blake2b", payload: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(payload)
    return mac.digest()


def _decode(text: str) -> bytes:
    """Return the bytes of an id. Raises InvalidIdError for a spelling that `sign` never writes."""
    try:
        signed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise InvalidIdError("not base64url") from error
    if len(signed) < _CLASS_HEAD.size + _TAG_BYTES:
        raise InvalidIdError("too short")
    if urlsafe_b64encode(signed).rstrip(b"=") != text.encode():
        raise InvalidIdError("not base64url")
    return signed
