"""Prediction ids that carry what feedback needs, signed, so that no database has to remember it.

An id is base64url of: format (1 byte), time (uint32, seconds since 1970), prediction (float64),
nonce (8 random bytes), version (UTF-8), tag (16 bytes of BLAKE2b keyed with a secret). It tells its
owner only what the response told already: prediction, version, and when.
"""

import os
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple

_HEAD = struct.Struct(">BId8s")
_FORMAT = 1
_TAG_BYTES = 16
_NONCE_BYTES = 8
# One system call for many nonces: urandom costs more than the rest of an id.
_POOL_BYTES = 512 * _NONCE_BYTES


class InvalidIdError(Exception):
    """None of our keys has signed such an id."""


class PredictionId(NamedTuple):
    """What an id carries; `time` in seconds since 1970."""

    version: str
    prediction: float
    time: int
    nonce: bytes


class Signer:
    """Signs with the first of its keys and accepts ids of all of them, so that keys can rotate."""

    def __init__(self, keys: Sequence[bytes], model: str, version: str) -> None:
        self._keyed = [blake2b(key=_key(key, model), digest_size=_TAG_BYTES) for key in keys]
        self._version = version.encode()
        self._pool = b""
        self._next = 0

    def sign(self, prediction: float, now: float) -> str:
        """Return the id of a prediction made at `now` (seconds since 1970)."""
        payload = _HEAD.pack(_FORMAT, int(now), prediction, self._nonce()) + self._version
        return urlsafe_b64encode(payload + _tag(self._keyed[0], payload)).rstrip(b"=").decode()

    def read(self, text: str) -> PredictionId:
        """Return what an id carries. Raises InvalidIdError: cut, changed or signed by another."""
        signed = _decode(text)
        payload, tag = signed[:-_TAG_BYTES], signed[-_TAG_BYTES:]
        # Of every key, so that the time it takes tells nothing.
        matches = [compare_digest(_tag(keyed, payload), tag) for keyed in self._keyed]
        if not any(matches) or payload[0] != _FORMAT:
            raise InvalidIdError("not signed by this service")
        _, time, prediction, nonce = _HEAD.unpack_from(payload)
        return PredictionId(payload[_HEAD.size :].decode(), prediction, time, nonce)

    def _nonce(self) -> bytes:
        if self._next == len(self._pool):
            self._pool, self._next = os.urandom(_POOL_BYTES), 0
        self._next += _NONCE_BYTES
        return self._pool[self._next - _NONCE_BYTES : self._next]


def _key(secret: bytes, model: str) -> bytes:
    """Return a key of BLAKE2b's size; another model's, were it to share the secret, is another."""
    return blake2b(model.encode(), key=blake2b(secret).digest(), digest_size=32).digest()


def _tag(keyed: "blake2b", payload: bytes) -> bytes:
    mac = keyed.copy()
    mac.update(payload)
    return mac.digest()


def _decode(text: str) -> bytes:
    """Return the bytes of an id, refusing every spelling but the one `sign` writes."""
    try:
        signed = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError as error:
        raise InvalidIdError("not base64url") from error
    if len(signed) < _HEAD.size + _TAG_BYTES:
        raise InvalidIdError("too short")
    if urlsafe_b64encode(signed).rstrip(b"=") != text.encode():
        raise InvalidIdError("not base64url")
    return signed
