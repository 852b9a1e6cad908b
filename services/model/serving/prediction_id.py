"""Signed prediction ids, which contain everything that feedback needs instead of a database.

An id is base64url of: format (1 byte), time (uint32, seconds since 1970), prediction (float64),
nonce (8 random bytes), version (UTF-8), tag (16 bytes of BLAKE2b keyed with a secret). It reveals
only what its owner knows from the response: prediction, version and time.
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
# Nonces are read in bulk: a call of urandom for each takes longer than the rest of an id.
_POOL_BYTES = 512 * _NONCE_BYTES


class InvalidIdError(Exception):
    """The id was not signed with any of our keys."""


class PredictionId(NamedTuple):
    """The content of an id; `time` is in seconds since 1970."""

    version: str
    prediction: float
    time: int
    nonce: bytes


class Signer:
    """Signs with the first key and accepts ids of all keys, so that keys can be rotated."""

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
        """Return the content of an id. Raises InvalidIdError if it was not signed with our keys."""
        signed = _decode(text)
        payload, tag = signed[:-_TAG_BYTES], signed[-_TAG_BYTES:]
        # Every key is compared, so that the duration is independent of the key.
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
    if len(signed) < _HEAD.size + _TAG_BYTES:
        raise InvalidIdError("too short")
    if urlsafe_b64encode(signed).rstrip(b"=") != text.encode():
        raise InvalidIdError("not base64url")
    return signed
